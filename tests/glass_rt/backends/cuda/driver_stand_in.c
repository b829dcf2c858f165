/* A stand-in for NVIDIA's driver, libcuda.so.1, on the CPU: memory is malloc's, and work is done when it is asked for.
 *
 * Just the calls that the seam to the GPU makes, so that the very bindings run in tests. A graph is a list of copies.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
typedef unsigned long long P;
enum { INVALID = 1, MEMORY = 2, NOT_INITIALISED = 3, ILLEGAL_ADDRESS = 700 };
static int initialised, retained, depth;
static R lost; /* after an illegal access every call in the context answers with it */
static long live; /* allocations, streams, events and graphs not given back */
struct Copy { void *to; const void *from; size_t n; };
struct Graph { int count; struct Copy copies[16]; };
static struct Graph *capturing;

static R copy(void *to, const void *from, size_t n) {
  if (depth < 1) return NOT_INITIALISED;
  if (capturing) capturing->copies[capturing->count++] = (struct Copy){to, from, n};
  else memcpy(to, from, n);
  return 0;
}
static R make(void **out) { if (depth < 1) return NOT_INITIALISED; ++live; *out = malloc(8); return 0; }
static R drop(void *thing) { if (!thing) return INVALID; --live; free(thing); return 0; }

R cuInit(unsigned f) { (void)f; initialised = 1; return 0; }
R cuDriverGetVersion(int *v) { *v = 13000; return 0; }
R cuGetErrorName(R r, const char **s) {
  *s = r == MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : r == INVALID ? "CUDA_ERROR_INVALID_VALUE"
     : r == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR";
  return 0;
}
R cuGetErrorString(R r, const char **s) { /* as a driver of CUDA 13 puts it; pycuda crashes where this is not set */
  *s = r == MEMORY ? "out of memory" : r == INVALID ? "invalid argument"
     : r == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "something";
  return 0;
}
R cuDeviceGetCount(int *n) { *n = 1; return initialised ? 0 : NOT_INITIALISED; }
R cuDeviceGet(int *d, int i) { *d = i; return i ? INVALID : 0; }
R cuDeviceGetAttribute(int *v, int a, int d) { (void)d; *v = a == 75 ? 8 : 9; return 0; }
R cuDeviceGetName(char *s, int n, int d) { (void)d; strncpy(s, "Stand-in", n); return 0; }
R cuDevicePrimaryCtxRetain(void **c, int d) { (void)d; ++retained; *c = &retained; return 0; }
R cuDevicePrimaryCtxRelease_v2(int d) { (void)d; --retained; return 0; }
R cuCtxPushCurrent_v2(void *c) { if (c != &retained) return INVALID; ++depth; return 0; }
R cuCtxPopCurrent_v2(void **c) { --depth; *c = &retained; return 0; }
R cuMemGetInfo_v2(size_t *f, size_t *t) { *f = 1000; *t = 2000; return lost; }
R cuMemAlloc_v2(P *p, size_t n) { if (lost || !n) return lost ? lost : INVALID; if (n > 1u << 30) return MEMORY; ++live; *p = (P)malloc(n); return 0; }
R cuMemFree_v2(P p) { return drop((void *)p); }
R cuMemAllocHost_v2(void **p, size_t n) { ++live; *p = malloc(n); return 0; }
R cuMemFreeHost(void *p) { return drop(p); }
R cuStreamCreate(void **s, unsigned f) { return f == 1 ? make(s) : INVALID; }
R cuStreamDestroy_v2(void *s) { return drop(s); }
R cuStreamSynchronize(void *s) { (void)s; return lost; }
/* An event sleeps and is not timed (blocking, no timing), or is the default one. */
R cuEventCreate(void **e, unsigned f) { R r = f == 0 || f == 3 ? make(e) : INVALID; if (!r) *(unsigned *)*e = f; return r; }
R cuEventDestroy_v2(void *e) { return drop(e); }
R cuEventRecord(void *e, void *s) { return e && s ? 0 : INVALID; }
R cuStreamWaitEvent(void *s, void *e, unsigned f) { (void)f; return e && s ? 0 : INVALID; }
R cuEventSynchronize(void *e) { return e ? 0 : INVALID; }
R cuEventElapsedTime_v2(float *ms, void *a, void *b) { *ms = 2.5f; return a && b && !*(unsigned *)a && !*(unsigned *)b ? 0 : INVALID; }
R cuEventElapsedTime(float *ms, void *a, void *b) { return cuEventElapsedTime_v2(ms, a, b); }
R cuMemcpyHtoDAsync_v2(P d, const void *h, size_t n, void *s) { return s ? copy((void *)d, h, n) : INVALID; }
R cuMemcpyDtoHAsync_v2(void *h, P d, size_t n, void *s) { return s ? copy(h, (void *)d, n) : INVALID; }
R cuMemcpyDtoDAsync_v2(P t, P d, size_t n, void *s) { return s ? copy((void *)t, (void *)d, n) : INVALID; }
R cuStreamBeginCapture_v2(void *s, int mode) {
  if (!s || mode != 1) return INVALID; /* thread local */
  capturing = calloc(1, sizeof *capturing);
  ++live;
  return 0;
}
R cuStreamEndCapture(void *s, void **g) { (void)s; *g = capturing; capturing = 0; return 0; }
R cuGraphInstantiateWithFlags(void **e, void *g, unsigned long long f) {
  (void)f;
  struct Graph *copied = malloc(sizeof *copied);
  *copied = *(struct Graph *)g;
  ++live;
  *e = copied;
  return 0;
}
R cuGraphDestroy(void *g) { return drop(g); }
R cuGraphExecDestroy(void *g) { return drop(g); }
R cuGraphLaunch(void *e, void *s) {
  struct Graph *g = e;
  for (int i = 0; i < g->count; ++i) memcpy(g->copies[i].to, g->copies[i].from, g->copies[i].n);
  return s ? 0 : INVALID;
}
R cuModuleLoadData(void **m, const void *image) { return image ? make(m) : INVALID; }
R cuModuleUnload(void *m) { return drop(m); }
R cuModuleGetFunction(void **f, void *m, const char *name) { *f = (void *)name; return m ? 0 : INVALID; }
/* The one kernel: out[0] = a + b, of (uint64 out, int32 a, int32 b). Two rows of blocks are an illegal access. */
R cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                 void *s, void **arguments, void **extra) {
  (void)f; (void)gz; (void)bx; (void)by; (void)bz; (void)shared;
  if (!s || gx != 7) return INVALID;
  if (gy == 2) { lost = ILLEGAL_ADDRESS; return 0; } /* it comes out later */
  if (arguments) {
    *(int *)*(P *)arguments[0] = *(int *)arguments[1] + *(int *)arguments[2];
  } else { /* packed: CU_LAUNCH_PARAM_BUFFER_POINTER, buffer, ... */
    struct { P out; int a, b; } *packed = extra[1];
    *(int *)packed->out = packed->a + packed->b;
  }
  return 0;
}
/* What pycuda calls instead, or besides. */
R cuDeviceComputeCapability(int *major, int *minor, int d) { (void)d; *major = 8; *minor = 9; return 0; }
R cuCtxGetDevice(int *d) { *d = 0; return 0; }
R cuMemHostAlloc(void **p, size_t n, unsigned f) { (void)f; return cuMemAllocHost_v2(p, n); }
R cuModuleLoadDataEx(void **m, const void *image, unsigned n, void *o, void *v) {
  (void)n; (void)o; (void)v;
  return cuModuleLoadData(m, image);
}
R cuFuncGetAttribute(int *v, int a, void *f) { (void)a; (void)f; *v = 0; return 0; }
R cuFuncSetBlockShape(void *f, int x, int y, int z) { (void)f; (void)x; (void)y; (void)z; return 0; }
R cuEventQuery(void *e) { return e ? 0 : INVALID; }
long stand_in_live(void) { return live + 1000 * retained + 1000000 * depth; }

/* How the bindings look their calls up: by the plain name, and the newest version of it that is not too new. */
R cuGetProcAddress_v2(const char *name, void **f, int version, uint64_t flags, void *status) {
  (void)version; (void)flags;
  char versioned[128];
  const char *suffixes[] = {"_v2", ""};
  *f = 0;
  if (!strcmp(name, "cuGraphInstantiate")) name = "cuGraphInstantiateWithFlags";
  if (!strcmp(name, "cuGetProcAddress")) { *f = (void *)cuGetProcAddress_v2; }
  for (int i = 0; i < 2 && !*f; ++i) {
    strcat(strcpy(versioned, name), suffixes[i]);
    *f = dlsym(RTLD_DEFAULT, versioned);
    if (!*f) { void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD); if (self) *f = dlsym(self, versioned); }
  }
  if (status) *(int *)status = *f ? 0 : 1;
  return *f ? 0 : 500;
}
R cuGetProcAddress(const char *n, void **f, int v, uint64_t fl) { return cuGetProcAddress_v2(n, f, v, fl, 0); }
