/* Just enough of NVML for the real nvidia-ml-py to ask: an A100, a GPU in MIG mode with two
   instances, a GPU that has fallen off the bus, and a GPU of before MIG. A handle is a number:
   GPU n is n + 1, instance i of it is 100 * (n + 1) + i. Built with -DOLD, functions that older
   drivers lack are missing; with -DOLDEST, also the list of processes. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, LOST = 15 };
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_t;

int nvmlInit_v2(void) { return OK; }
int nvmlInitWithFlags(unsigned flags) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "an error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 4; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index >= 4) return INVALID;
    *handle = (void *)(uintptr_t)(index + 1);
    return index == 2 ? LOST : OK;
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned length) {
    uintptr_t n = (uintptr_t)handle;
    snprintf(text, length, n < 100 ? "GPU-%lu" : "MIG-%lu", (unsigned long)n);
    return OK;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned length) {
    snprintf(text, length, (uintptr_t)handle < 100 ? "Fake A100" : "Fake A100 MIG 1g.5gb");
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    uintptr_t n = (uintptr_t)handle;
    memory->total = (n < 100 ? 40ull : 5ull) << 30;
    memory->free = memory->total - ((unsigned long long)n << 20);
    memory->used = memory->total - memory->free;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = (uintptr_t)handle == 4 ? 7 : 8;
    *minor = 0;
    return OK;
}
#ifndef OLD
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    if ((uintptr_t)handle == 4) return NOT_SUPPORTED;
    *current = *pending = (uintptr_t)handle == 2;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = 3; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **part) {
    if (index == 1) return NOT_FOUND; /* instances are numbered with gaps */
    *part = (void *)(100 * (uintptr_t)handle + index);
    return OK;
}
#define PROCESSES nvmlDeviceGetComputeRunningProcesses_v3
#else
#define PROCESSES nvmlDeviceGetComputeRunningProcesses_v2
#endif
#ifndef OLDEST
int PROCESSES(void *handle, unsigned *count, process_t *found) {
    unsigned there = (uintptr_t)handle == 1 ? 1 : 0, room = *count;
    *count = there;
    if (room < there) return SMALL;
    if (there) memset(found, 0, sizeof *found), found->pid = 1;
    return OK;
}
#endif
