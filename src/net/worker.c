#include "net/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/loop_uv.h"

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_FINISHED };

struct job {
    worker_fn *work, *drop;
    void *arg;
    worker_done_fn *done;
    void *user;
    struct timer deadline;
    struct worker *worker; /* for the deadline; loop's thread only */
    enum job_state state;  /* under the lock */
    struct job *next;
};

struct job_list {
    struct job *first, **end;
};

/* What thread and worker share. The worker frees it after joining the thread, or leaves it to a
 * thread that is inside a call. */
struct desk {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job_list waiting, finished;
    struct job *running;
    size_t n_waiting;
    uv_async_t *bell; /* borrowed; rings on the loop when a job is finished */
    bool worker_gone; /* do not ring any more, come to an end */
    bool left_alone;  /* the thread frees the desk */
    char name[16];
};

struct worker {
    struct loop *loop;
    struct desk *desk;
    uv_async_t *bell; /* owned; freed by its close callback */
    pthread_t thread;
    struct job *late; /* the running job that missed its deadline; owned by the desk */
    void (*on_return)(void *user);
    void *on_return_user;
    unsigned busy; /* deliveries that are on the stack */
    bool freed;    /* during one of them */
};

/* ---- lists ---- */

static void list_add(struct job_list *list, struct job *job)
{
    job->next = NULL;
    *list->end = job;
    list->end = &job->next;
}

static struct job *list_take(struct job_list *list)
{
    struct job *job = list->first;

    if (!job)
        return NULL;
    list->first = job->next;
    if (!list->first)
        list->end = &list->first;
    return job;
}

static void list_remove(struct job_list *list, struct job *job)
{
    struct job **at = &list->first;

    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    if (!job->next)
        list->end = at;
}

/* ---- the thread ---- */

static void drop_job(struct job *job)
{
    if (job->drop)
        job->drop(job->arg);
    mem_free(job);
}

static void free_desk(struct desk *desk)
{
    pthread_mutex_destroy(&desk->lock);
    pthread_cond_destroy(&desk->wake);
    mem_free(desk);
}

/* Puts a finished job where the loop finds it, or away when nobody will ask for it. */
static void hand_in(struct desk *desk, struct job *job)
{
    desk->running = NULL;
    job->state = JOB_FINISHED;
    if (!desk->worker_gone) {
        list_add(&desk->finished, job);
        uv_async_send(desk->bell);
        return;
    }
    pthread_mutex_unlock(&desk->lock);
    drop_job(job);
    pthread_mutex_lock(&desk->lock);
}

static void *run_thread(void *arg)
{
    struct desk *desk = arg;

    pthread_setname_np(pthread_self(), desk->name);
    pthread_mutex_lock(&desk->lock);
    while (!desk->worker_gone) {
        struct job *job = list_take(&desk->waiting);
        if (!job) {
            pthread_cond_wait(&desk->wake, &desk->lock);
            continue;
        }
        desk->n_waiting--;
        desk->running = job;
        job->state = JOB_RUNNING;
        pthread_mutex_unlock(&desk->lock);
        job->work(job->arg);
        pthread_mutex_lock(&desk->lock);
        hand_in(desk, job);
    }
    bool mine = desk->left_alone;
    pthread_mutex_unlock(&desk->lock);
    if (mine)
        free_desk(desk);
    return NULL;
}

/* ---- the loop's side ---- */

static void really_free(struct worker *worker);

/* A callback may have freed the worker: the last one that leaves does it. */
static void leave(struct worker *worker)
{
    if (--worker->busy == 0 && worker->freed)
        really_free(worker);
}

static void deliver(struct worker *worker, struct job *job)
{
    timer_stop(&job->deadline);
    if (worker->late == job) {
        worker->late = NULL;
        drop_job(job);
        if (worker->on_return)
            worker->on_return(worker->on_return_user);
        return;
    }
    worker_done_fn *done = job->done;
    void *user = job->user;
    mem_free(job);
    done(user, 0);
}

static struct job *take_finished(struct worker *worker)
{
    pthread_mutex_lock(&worker->desk->lock);
    struct job *job = list_take(&worker->desk->finished);
    pthread_mutex_unlock(&worker->desk->lock);
    return job;
}

static void on_bell(uv_async_t *bell)
{
    struct worker *worker = bell->data;
    struct job *job;

    loop_count_callback(worker->loop);
    worker->busy++;
    while (!worker->freed && (job = take_finished(worker)))
        deliver(worker, job);
    leave(worker);
}

static void on_deadline(struct timer *timer, void *user)
{
    struct job *job = user;
    struct worker *worker = job->worker;

    pthread_mutex_lock(&worker->desk->lock);
    enum job_state state = job->state;
    if (state == JOB_WAITING) {
        list_remove(&worker->desk->waiting, job);
        worker->desk->n_waiting--;
    }
    pthread_mutex_unlock(&worker->desk->lock);

    /* Finished in the last moment: the bell has rung, the answer is as good as in time. */
    if (state == JOB_FINISHED)
        return;
    worker->busy++;
    if (state == JOB_RUNNING)
        worker->late = job;
    job->done(job->user, -ETIMEDOUT);
    if (state == JOB_WAITING)
        drop_job(job);
    leave(worker);
}

int worker_submit(struct worker *worker, worker_fn *work, void *arg, worker_done_fn *done,
                  void *user, worker_fn *drop, uint64_t deadline_ms, struct err *err)
{
    if (worker->late)
        return err_set(err, EBUSY, "%s: a call has not come back yet", worker->desk->name);
    struct job *job = mem_alloc(sizeof(*job));
    if (!job)
        return err_no_memory(err);
    *job = (struct job){
        .work = work,
        .drop = drop,
        .arg = arg,
        .done = done,
        .user = user,
        .worker = worker,
    };

    pthread_mutex_lock(&worker->desk->lock);
    bool full = worker->desk->n_waiting >= WORKER_MAX_QUEUE;
    if (!full) {
        list_add(&worker->desk->waiting, job);
        worker->desk->n_waiting++;
        pthread_cond_signal(&worker->desk->wake);
    }
    pthread_mutex_unlock(&worker->desk->lock);
    if (full) {
        mem_free(job);
        return err_set(err, EAGAIN, "%s: %d calls are waiting already", worker->desk->name,
                       WORKER_MAX_QUEUE);
    }
    if (deadline_ms > 0)
        timer_start(&job->deadline, worker->loop, deadline_ms, on_deadline, job);
    return 0;
}

bool worker_stuck(const struct worker *worker)
{
    return worker->late != NULL;
}

void worker_on_return(struct worker *worker, void (*fn)(void *user), void *user)
{
    worker->on_return = fn;
    worker->on_return_user = user;
}

/* ---- life ---- */

static void free_bell(uv_handle_t *handle)
{
    mem_free(handle);
}

static int start_thread(struct worker *worker)
{
    pthread_attr_t attr;
    sigset_t all, before;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, WORKER_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&worker->thread, &attr, run_thread, worker->desk);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return r;
}

static struct desk *new_desk(const char *name)
{
    struct desk *desk = mem_alloc(sizeof(*desk));

    if (!desk)
        return NULL;
    pthread_mutex_init(&desk->lock, NULL);
    pthread_cond_init(&desk->wake, NULL);
    desk->waiting.end = &desk->waiting.first;
    desk->finished.end = &desk->finished.first;
    snprintf(desk->name, sizeof(desk->name), "%s", name);
    return desk;
}

int worker_new(struct loop *loop, const char *name, struct worker **ret, struct err *err)
{
    auto_free struct worker *worker = mem_alloc(sizeof(*worker));
    uv_async_t *bell = mem_alloc(sizeof(*bell));
    struct desk *desk = new_desk(name);

    int r = worker && bell && desk ? uv_async_init(loop_uv(loop), bell, on_bell) : -ENOMEM;
    if (r < 0) {
        mem_free(bell);
        if (desk)
            free_desk(desk);
        return err_set(err, -r, "cannot make worker %s: %s", name, strerror(-r));
    }
    *worker = (struct worker){ .loop = loop, .desk = desk, .bell = bell };
    bell->data = worker;
    desk->bell = bell;
    r = start_thread(worker);
    if (r != 0) {
        uv_close((uv_handle_t *)bell, free_bell);
        free_desk(desk);
        return err_set(err, r, "cannot start the thread of worker %s: %s", name, strerror(r));
    }
    *ret = steal(worker);
    return 0;
}

static void drop_all(struct job *job)
{
    while (job) {
        struct job *next = job->next;
        timer_stop(&job->deadline);
        drop_job(job);
        job = next;
    }
}

static void really_free(struct worker *worker)
{
    struct desk *desk = worker->desk;

    pthread_mutex_lock(&desk->lock);
    struct job *waiting = desk->waiting.first, *finished = desk->finished.first;
    desk->waiting.first = desk->finished.first = NULL;
    desk->waiting.end = &desk->waiting.first;
    if (desk->running)
        timer_stop(&desk->running->deadline);
    desk->worker_gone = true;
    bool inside = desk->left_alone = desk->running != NULL;
    pthread_cond_signal(&desk->wake);
    pthread_mutex_unlock(&desk->lock);

    uv_close((uv_handle_t *)worker->bell, free_bell);
    if (inside) {
        pthread_detach(worker->thread);
    } else {
        pthread_join(worker->thread, NULL);
        free_desk(desk);
    }
    drop_all(waiting);
    drop_all(finished);
    mem_free(worker);
}

void worker_free(struct worker *worker)
{
    if (!worker)
        return;
    worker->freed = true;
    if (worker->busy == 0)
        really_free(worker);
}
