#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/worker.h"

/* One call: it may wait for the test to let it through. */
struct call {
    sem_t begun, go;
    bool waits;
    int input, output;
    pthread_t ran_on;
    int dones, last_r;
    atomic_int drops;
    sem_t dropped;
};

static void call_init(struct call *call, bool waits)
{
    *call = (struct call){ .waits = waits, .last_r = 99 };
    sem_init(&call->begun, 0, 0);
    sem_init(&call->go, 0, 0);
    sem_init(&call->dropped, 0, 0);
}

static void work(void *arg)
{
    struct call *call = arg;

    call->ran_on = pthread_self();
    sem_post(&call->begun);
    if (call->waits)
        sem_wait(&call->go);
    call->output = call->input * 2;
}

static void done(void *user, int r)
{
    struct call *call = user;

    call->dones++;
    call->last_r = r;
}

static void drop(void *arg)
{
    struct call *call = arg;

    atomic_fetch_add(&call->drops, 1);
    sem_post(&call->dropped);
}

struct rig {
    struct loop *loop;
    struct worker *worker;
};

static int set_up(void **state)
{
    static struct rig rig;

    *state = &rig;
    return loop_new_manual(&rig.loop, NULL) < 0 ||
           worker_new(rig.loop, "gpu0-with-a-long-name", &rig.worker, NULL) < 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    worker_free(rig->worker);
    loop_free(rig->loop);
    return 0;
}

static int submit(struct rig *rig, struct call *call, uint64_t deadline_ms)
{
    return worker_submit(rig->worker, work, call, done, call, drop, deadline_ms, NULL);
}

static void wait_for(struct rig *rig, const int *what)
{
    while (*what == 0)
        loop_wait(rig->loop, 1000);
}

static void work_runs_on_another_thread_and_is_reported_on_ours(void **state)
{
    struct rig *rig = *state;
    struct call call;

    call_init(&call, false);
    call.input = 21;
    assert_int_equal(submit(rig, &call, 1000), 0);
    wait_for(rig, &call.dones);
    assert_int_equal(call.last_r, 0);
    assert_int_equal(call.output, 42);
    assert_false(pthread_equal(call.ran_on, pthread_self()));
    loop_advance_ms(rig->loop, 10000);
    assert_int_equal(call.dones, 1);
    assert_int_equal(call.drops, 0);
}

static void jobs_run_in_the_order_of_submission(void **state)
{
    struct rig *rig = *state;
    struct call calls[8];

    for (int i = 0; i < 8; i++) {
        call_init(&calls[i], i == 0);
        assert_int_equal(submit(rig, &calls[i], 0), 0);
    }
    sem_wait(&calls[0].begun);
    assert_int_equal(sem_trywait(&calls[1].begun), -1);
    sem_post(&calls[0].go);
    wait_for(rig, &calls[7].dones);
    for (int i = 0; i < 8; i++)
        assert_int_equal(calls[i].dones, 1);
}

static void came_back(void *user)
{
    ++*(int *)user;
}

static void a_call_that_hangs_times_out_and_makes_the_worker_stuck_until_it_returns(void **state)
{
    struct rig *rig = *state;
    struct call hangs, next;
    struct err err;
    int returns = 0;

    call_init(&hangs, true);
    call_init(&next, false);
    worker_on_return(rig->worker, came_back, &returns);
    assert_int_equal(submit(rig, &hangs, 50), 0);
    sem_wait(&hangs.begun);
    loop_advance_ms(rig->loop, 49);
    assert_int_equal(hangs.dones, 0);
    loop_advance_ms(rig->loop, 1);
    assert_int_equal(hangs.last_r, -ETIMEDOUT);
    assert_true(worker_stuck(rig->worker));
    assert_int_equal(hangs.drops, 0); /* the call still uses it */
    assert_int_equal(worker_submit(rig->worker, work, &next, done, &next, drop, 10, &err), -EBUSY);
    assert_non_null(strstr(err.text, "gpu0-with-a-lon"));

    sem_post(&hangs.go);
    wait_for(rig, &returns);
    assert_int_equal(hangs.drops, 1);
    assert_int_equal(hangs.dones, 1); /* the late answer is not told */
    assert_false(worker_stuck(rig->worker));
    assert_int_equal(submit(rig, &next, 10), 0);
    wait_for(rig, &next.dones);
    assert_int_equal(next.last_r, 0);
}

static void a_job_that_never_began_times_out_in_the_queue(void **state)
{
    struct rig *rig = *state;
    struct call first, second;

    call_init(&first, true);
    call_init(&second, false);
    assert_int_equal(submit(rig, &first, 0), 0);
    assert_int_equal(submit(rig, &second, 20), 0);
    sem_wait(&first.begun);
    loop_advance_ms(rig->loop, 20);
    assert_int_equal(second.last_r, -ETIMEDOUT);
    assert_int_equal(second.drops, 1);
    assert_false(worker_stuck(rig->worker));
    sem_post(&first.go);
    wait_for(rig, &first.dones);
    assert_int_equal(first.last_r, 0);
    assert_int_equal(sem_trywait(&second.begun), -1);
}

static void the_queue_has_an_end(void **state)
{
    struct rig *rig = *state;
    struct call first, many[WORKER_MAX_QUEUE + 1];

    call_init(&first, true);
    assert_int_equal(submit(rig, &first, 0), 0);
    sem_wait(&first.begun);
    for (int i = 0; i <= WORKER_MAX_QUEUE; i++) {
        call_init(&many[i], false);
        assert_int_equal(submit(rig, &many[i], 0), i < WORKER_MAX_QUEUE ? 0 : -EAGAIN);
    }
    sem_post(&first.go);
    wait_for(rig, &many[WORKER_MAX_QUEUE - 1].dones);
}

static void freeing_drops_what_waits_and_leaves_a_hanging_call_alone(void **state)
{
    struct rig *rig = *state;
    struct call hangs, waits;

    call_init(&hangs, true);
    call_init(&waits, false);
    assert_int_equal(submit(rig, &hangs, 10), 0);
    assert_int_equal(submit(rig, &waits, 10000), 0);
    sem_wait(&hangs.begun);
    worker_free(rig->worker);
    rig->worker = NULL;
    assert_int_equal(waits.drops, 1);
    assert_int_equal(waits.dones, 0);
    assert_int_equal(hangs.drops, 0);
    loop_free(rig->loop);
    rig->loop = NULL;
    sem_post(&hangs.go);
    sem_wait(&hangs.dropped); /* on its own thread, after everything else is gone */
    assert_int_equal(hangs.output, 0);
    assert_int_equal(hangs.dones, 0);
}

static void free_inside(void *user, int r)
{
    struct rig *rig = user;

    worker_free(rig->worker);
    rig->worker = NULL;
}

static void a_done_function_may_free_the_worker(void **state)
{
    struct rig *rig = *state;
    struct call first, second;

    call_init(&first, false);
    call_init(&second, false);
    assert_int_equal(worker_submit(rig->worker, work, &first, free_inside, rig, drop, 100, NULL),
                     0);
    assert_int_equal(submit(rig, &second, 100), 0);
    sem_wait(&second.begun);
    while (rig->worker)
        loop_wait(rig->loop, 1000);
    sem_wait(&second.dropped);
    assert_int_equal(second.dones, 0);
    assert_int_equal(first.drops, 0);
}

static atomic_int signals_here;
static pthread_t signal_thread;

static void on_signal(int signum)
{
    signal_thread = pthread_self();
    atomic_fetch_add(&signals_here, 1);
}

static void check_mask(void *arg)
{
    sigset_t mask;

    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    *(int *)arg = sigismember(&mask, SIGTERM) && sigismember(&mask, SIGCHLD) ? 1 : -1;
}

static void no_signal_goes_to_a_worker(void **state)
{
    struct rig *rig = *state;
    struct call call;
    int masked = 0;

    call_init(&call, false);
    signal(SIGUSR2, on_signal);
    assert_int_equal(worker_submit(rig->worker, check_mask, &masked, done, &call, NULL, 0, NULL),
                     0);
    wait_for(rig, &call.dones);
    assert_int_equal(masked, 1);
    kill(getpid(), SIGUSR2);
    assert_int_equal(signals_here, 1);
    assert_true(pthread_equal(signal_thread, pthread_self()));
}

#define WORKER_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORKER_TEST(work_runs_on_another_thread_and_is_reported_on_ours),
        WORKER_TEST(jobs_run_in_the_order_of_submission),
        WORKER_TEST(a_call_that_hangs_times_out_and_makes_the_worker_stuck_until_it_returns),
        WORKER_TEST(a_job_that_never_began_times_out_in_the_queue),
        WORKER_TEST(the_queue_has_an_end),
        WORKER_TEST(freeing_drops_what_waits_and_leaves_a_hanging_call_alone),
        WORKER_TEST(a_done_function_may_free_the_worker),
        WORKER_TEST(no_signal_goes_to_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
