/*
 * One thread with a queue, for calls that may hang: NVML has one worker for each GPU, so a GPU that
 * fell off the bus hangs its own worker and nobody else (design §5).
 *
 * Work runs on the thread, in order of submission; everything else happens on the loop's thread.
 * A job is over when its `done` was called, exactly once: with 0 after the work was done, or with
 * -ETIMEDOUT at its deadline. Work that had begun by then goes on in the background: the worker
 * is `stuck` and refuses jobs until the call comes back.
 *
 * Who owns `arg`: after done(0) the caller again. After done(-ETIMEDOUT) the worker, because the
 * late call still uses it: `drop(arg)` is called when that has returned (at once for work that
 * never began). worker_free drops every arg whose done has not been called.
 *
 * Threads have small stacks (WORKER_STACK_BYTES) and receive no signals. In a process with many
 * workers, mallopt(M_ARENA_MAX, …) keeps the C library from giving each its own heap.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "net/loop.h"

#define WORKER_STACK_BYTES KIB(128)
#define WORKER_MAX_QUEUE   64

struct worker;

typedef void worker_fn(void *arg);              /* on the worker's thread */
typedef void worker_done_fn(void *user, int r); /* on the loop's thread; r: 0 or -ETIMEDOUT */

/* The name (at most 15 bytes are kept) is what `ps -T` and a debugger show. */
[[nodiscard]] int worker_new(struct loop *loop, const char *name, struct worker **ret,
                             struct err *err);

/* Never waits for work: a thread that is inside a call is let go and ends by itself when the call
 * returns, dropping its arg on its own thread then; `drop` must be able to run there. No done is
 * called any more. */
void worker_free(struct worker *worker);
DEFINE_FREEP(struct worker, worker_free)

/*
 * deadline_ms counts from now and includes waiting in the queue; 0 is no deadline. `drop` may be
 * NULL. -EBUSY while the worker is stuck, -EAGAIN when WORKER_MAX_QUEUE jobs wait, -ENOMEM; arg
 * is the caller's still when this fails, and `done` will not be called.
 */
[[nodiscard]] int worker_submit(struct worker *worker, worker_fn *work, void *arg,
                                worker_done_fn *done, void *user, worker_fn *drop,
                                uint64_t deadline_ms, struct err *err);

/* True from the moment a running job missed its deadline until its call has come back. */
bool worker_stuck(const struct worker *worker);
/* Called on the loop when a stuck call has come back and jobs are taken again. */
void worker_on_return(struct worker *worker, void (*fn)(void *user), void *user);
