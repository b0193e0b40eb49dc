#include "sim/node/mps_control.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"

int sim_mps_daemon_make(const char *pipe_dir, unsigned active_thread_pct, struct err *err)
{
    char path[512], settings[32];
    int r = file_make_dirs(pipe_dir, 0755, err);

    snprintf(path, sizeof(path), "%s/control", pipe_dir);
    snprintf(settings, sizeof(settings), "%u.0\n", active_thread_pct);
    return r < 0 ? r : file_replace(AT_FDCWD, path, span_of(settings), 0644, err);
}

int sim_mps_control_main(int argc, char **argv)
{
    const char *pipe_dir = getenv("CUDA_MPS_PIPE_DIRECTORY");
    auto_(buf_done) struct buf command = BUF_MAX(KIB(64));
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    char path[512];
    char *settings;

    if (argc > 1) {
        fprintf(stderr, "%s: only commands on standard input are simulated\n", argv[0]);
        return 2;
    }
    if (buf_read_all(&command, STDIN_FILENO, NULL) < 0)
        return 1;
    snprintf(path, sizeof(path), "%s/control", pipe_dir ? pipe_dir : "/tmp/nvidia-mps");
    if (file_read_line(AT_FDCWD, path, &arena, &settings, NULL) < 0) {
        fprintf(stderr, "Cannot find MPS control daemon process\n");
        return 1;
    }
    if (span_equal(span_trim(buf_span(&command)), SPAN("get_default_active_thread_percentage")))
        puts(settings);
    return 0;
}
