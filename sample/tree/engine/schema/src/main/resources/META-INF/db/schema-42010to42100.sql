-- SPDX-License-Identifier: Apache-2.0
ALTER TABLE `vm_instance` ADD COLUMN `account_name` varchar(255) DEFAULT NULL;
UPDATE `version` SET `version` = '4.21.0.0';
