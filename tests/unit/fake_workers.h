/* Workers that do nothing but answer through all links, for test_supervisor:
 * the same program under the workers' names. */
#pragma once

/* Does not return when argv[0] is bulkhead-ROLE. */
void fake_worker_run(int argc, char **argv);
