/*
 * bulkhead-keeper: started by the supervisor as the keepers' zygote.
 *
 * Its image is a sealed copy in memory: keepers enter the pid namespaces of
 * containers before they exec, and what /proc/<pid>/exe of theirs leads to must
 * be nothing that anybody could write to.
 */
#include "base/log.h"
#include "workers/keeper/criu.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/title.h"
#include "workers/keeper/zygote.h"
#include "workers/skeleton/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

int main(int argc, char **argv) {
	if (criu_calls())
		return criu_called();
	int r = image_seal("bulkhead-keeper", argv);
	if (r < 0) {
		log_init("keeper", LOG_INFO);
		log_text(LOG_ERROR, "run from a sealed copy: %s", strerrordesc_np(-r));
		return 1;
	}
	prctl(PR_SET_NAME, "bulkhead-keeper", 0, 0, 0);
	title_init(argc, argv);
	return worker_main(&zygote_class, argc, argv);
}
