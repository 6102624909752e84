/* Counts the waits for the disk of the processes that load this (LD_PRELOAD), and makes them take longer.
 *
 * A disk does one flush after the other, and each covers all that came before it began; so do journals. A call that comes
 * while nothing is flushed begins a flush, one that comes meanwhile waits for the next one, which it shares with all that
 * come until then. All processes share the disk, through a file in memory. Without a delay, calls are only counted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct disk {
    _Atomic uint64_t delay; /* nanoseconds of a flush */
    _Atomic uint64_t calls;
    _Atomic uint64_t flushes; /* only with a delay */
    _Atomic uint64_t end; /* of the last flush that is known, on the monotonic clock */
};

static struct disk *disk;

__attribute__((constructor)) static void open_disk(void)
{
    const char *path = getenv("SYNC_DISK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *memory = mmap(NULL, sizeof *disk, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED)
        disk = memory;
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* When the flush ends that covers what was written until now. */
static uint64_t reserve(uint64_t delay)
{
    uint64_t end = atomic_load(&disk->end);
    for (;;) {
        uint64_t time = now(), mine;
        if (time < end && time + delay < end)
            return end; /* it has not begun */
        mine = (time < end ? end : time) + delay;
        if (atomic_compare_exchange_weak(&disk->end, &end, mine)) {
            atomic_fetch_add(&disk->flushes, 1);
            return mine;
        }
    }
}

static int slowly(const char *name, int file)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    uint64_t delay = disk ? atomic_load(&disk->delay) : 0;
    uint64_t end = delay ? reserve(delay) : 0;
    int result = real(file);
    if (disk)
        atomic_fetch_add(&disk->calls, 1);
    if (end) {
        struct timespec until = {(time_t)(end / 1000000000u), (long)(end % 1000000000u)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
            ;
    }
    return result;
}

int fsync(int file) { return slowly("fsync", file); }
int fdatasync(int file) { return slowly("fdatasync", file); }
int syncfs(int file) { return slowly("syncfs", file); }
