#include "cli/command_line.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

int command_line_load(enum program program, int argc, const char *const *argv, bool nvml_found,
                      struct arena *arena, struct command_line *ret, bool *ret_usage,
                      struct err *err)
{
    const struct config_input input = {
        .program = program,
        .argc = argc,
        .argv = argv,
        .environ = (const char *const *)environ,
    };
    const char *path;
    struct span content;
    bool usage;

    ret_usage = ret_usage ? ret_usage : &usage;
    int r = config_options(&input, arena, &path, &ret->request, err);
    *ret_usage = r == -EINVAL;
    if (r < 0 || ret->request != CONFIG_RUN)
        return r;
    if (*path) {
        r = file_read(AT_FDCWD, path, CONFIG_MAX_FILE_BYTES, arena, &content, NULL);
        if (r < 0)
            return config_unreadable(r, path, err);
    }
    return config_load(&input, *path ? &content : NULL, path, nvml_found, arena, &ret->config,
                       &ret->warnings, err);
}
