/*
 * What the other files of net/ see of the loop underneath. Not for other rooms.
 */
#pragma once

#include <uv.h>

#include "net/loop.h"

uv_loop_t *loop_uv(struct loop *loop);

/* A callback came in by another way than timers, signals and loop_fds: loop_poll is to report it.
 */
void loop_count_callback(struct loop *loop);

/*
 * A handle that outlives its owner because the kernel has not answered yet (a killed child). It
 * calls loop_forget when it closes by itself; loop_free calls `close` on those that are left.
 */
struct loop_leftover {
    struct loop_leftover *next, **at;
    void (*close)(struct loop_leftover *leftover);
};

void loop_remember(struct loop *loop, struct loop_leftover *leftover);
void loop_forget(struct loop_leftover *leftover);
