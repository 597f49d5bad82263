-- SPDX-License-Identifier: Apache-2.0
ALTER TABLE `host` ADD COLUMN `pod_name` varchar(255) NOT NULL DEFAULT '';
