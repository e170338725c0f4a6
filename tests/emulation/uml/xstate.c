/* ptrace(2) for user-mode-linux 6.1 on CPUs whose extended state is larger than it knows.
 *
 * UML keeps 2696 bytes of a process's XSAVE area (up to AVX-512 and PKRU) and puts them back by
 * PTRACE_SETREGSET; a host whose area is larger (AMX) refuses a part with EFAULT, and UML kills its init. Here
 * the part is laid over the whole area as it is, so that only what UML does not know stays what it was;
 * nobody in the guest may use that (AMX needs a permission that UML has no system call for).
 * Where the host takes the part, this does nothing.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char area[1 << 16]; /* UML's kernel stacks are too small for it, and UML is one thread. */

long ptrace(enum __ptrace_request request, ...)
{
    va_list rest;
    va_start(rest, request);
    pid_t pid = va_arg(rest, pid_t);
    void *address = va_arg(rest, void *);
    void *data = va_arg(rest, void *);
    va_end(rest);

    if (request >= PTRACE_PEEKTEXT && request <= PTRACE_PEEKUSER) { /* As the C library's own does. */
        long word = 0;
        return syscall(SYS_ptrace, request, pid, address, &word) < 0 ? -1 : word;
    }
    long done = syscall(SYS_ptrace, request, pid, address, data);
    if (done == 0 || errno != EFAULT || request != PTRACE_SETREGSET || (uintptr_t)address != NT_X86_XSTATE)
        return done;
    struct iovec *part = data, whole = {area, sizeof area};
    if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, address, &whole) < 0)
        return -1;
    if (part->iov_len >= whole.iov_len) {
        errno = EFAULT;
        return -1;
    }
    memcpy(area, part->iov_base, part->iov_len);
    return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, address, &whole);
}
