-- SPDX-License-Identifier: Apache-2.0
CREATE INDEX `i_host__pod_name` ON `host` (`pod_name`);
