/* The one place that says which bulkhead this is. */
#pragma once

#define BULKHEAD_NAME "bulkhead"
#define BULKHEAD_VERSION "0.1.0" /* semver: kubelet parses it */
