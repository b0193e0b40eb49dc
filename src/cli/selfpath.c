#include "cli/selfpath.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"

#define LIBRARY "libnvidia-ml.so.1"

int self_path(char *ret, size_t size, struct err *err)
{
    ssize_t n = readlink("/proc/self/exe", ret, size - 1);

    if (n < 0)
        return err_set(err, errno, "/proc/self/exe: %s", strerror(errno));
    ret[n] = '\0';
    return 0;
}

int sim_library_path(char *ret, size_t size, struct err *err)
{
    const char *given = getenv("TRANCHE_SIM_LIBRARY");
    char self[PATH_MAX];
    int r = self_path(self, sizeof(self), err);

    if (r < 0)
        return r;
    *strrchr(self, '/') = '\0';
    if (given && *given) {
        snprintf(ret, size, "%s", given);
        return file_exists(ret)
                   ? 0
                   : err_set(err, ENOENT, "TRANCHE_SIM_LIBRARY=%s: no such file", given);
    }
    snprintf(ret, size, "%.*s/" LIBRARY, (int)(size - sizeof(LIBRARY) - 1), self);
    if (file_exists(ret))
        return 0;
    snprintf(ret, size, "%s/" LIBRARY, TRANCHE_SIM_LIBRARY_DIR);
    if (file_exists(ret))
        return 0;
    return err_set(err, ENOENT, "the simulated driver %s is neither in %s nor in %s", LIBRARY, self,
                   TRANCHE_SIM_LIBRARY_DIR);
}
