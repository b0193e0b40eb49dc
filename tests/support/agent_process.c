#include "support/agent_process.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/file.h"

static const char *program(void)
{
    const char *path = getenv("TRANCHE_PROGRAM");

    if (!path)
        fail_msg("TRANCHE_PROGRAM is not set");
    return path;
}

void agent_process_env(struct agent_process *agent, const char *format, ...)
{
    char *text;
    size_t at, name;
    va_list args;

    va_start(args, format);
    assert_true(vasprintf(&text, format, args) >= 0);
    va_end(args);
    name = strcspn(text, "=") + 1;
    for (at = 0; at < agent->n_env && strncmp(agent->env[at], text, name) != 0; at++) {
    }
    assert_true(at < AGENT_MAX_ENV);
    if (at == agent->n_env)
        agent->n_env++;
    else
        free(agent->env[at]);
    agent->env[at] = text;
}

/* The program must not know where it is: nothing of the test's environment but what it needs. */
static void fill_env(struct agent_process *agent)
{
    const char *path = getenv("PATH");

    agent_process_env(agent, "PATH=%s/bin:%s", agent->dir, path ? path : "/usr/bin:/bin");
    agent_process_env(agent, "TRANCHE_SIM=%s", agent->sim);
    agent_process_env(agent, "KUBELET_SOCKET=%s/kubelet.sock", agent->plugins);
    agent_process_env(agent, "TRANCHE_MPS_ROOT=%s/mps", agent->dir);
    agent_process_env(agent, "ASAN_OPTIONS=detect_leaks=1");
}

struct agent_process *agent_process_new(const char *gpus)
{
    struct agent_process *agent = calloc(1, sizeof(*agent));

    strcpy(agent->dir, "/tmp/tranche-agent-XXXXXX");
    assert_non_null(mkdtemp(agent->dir));
    snprintf(agent->sim, sizeof(agent->sim), "%s/sim", agent->dir);
    snprintf(agent->plugins, sizeof(agent->plugins), "%s/plugins", agent->dir);
    snprintf(agent->config, sizeof(agent->config), "%s/config/config.yaml", agent->dir);
    assert_int_equal(mkdir(agent->plugins, 0700), 0);
    assert_int_equal(loop_new(&agent->loop, NULL), 0);
    agent->name = "nvidia-device-plugin";
    fill_env(agent);
    if (gpus)
        agent_process_sim(agent, "create --gpus %s", gpus);
    return agent;
}

void agent_process_free(struct agent_process *agent)
{
    if (agent->child && !agent->over) {
        agent_process_signal(agent, SIGTERM);
        int status = agent_process_wait(agent);
        if (status != 0)
            fail_msg("ended with %d: %s", status, agent->errors);
    }
    child_free(agent->child);
    scripted_kubelet_stop(&agent->kubelet, false);
    loop_free(agent->loop);
    file_remove_tree(agent->dir, NULL);
    for (size_t i = 0; i < agent->n_env; i++)
        free(agent->env[i]);
    free(agent->out);
    free(agent->errors);
    free(agent);
}

void agent_process_config(struct agent_process *agent, const char *text)
{
    char dir[128];
    bool first = !file_exists(agent->config);

    snprintf(dir, sizeof(dir), "%s/config", agent->dir);
    assert_int_equal(file_make_dirs(dir, 0700, NULL), 0);
    assert_int_equal(file_replace(AT_FDCWD, agent->config, span_of(text), 0600, NULL), 0);
    if (first)
        agent_process_env(agent, "CONFIG_FILE=%s", agent->config);
}

void agent_process_sim(struct agent_process *agent, const char *format, ...)
{
    char command[512], words[256];
    va_list args;

    va_start(args, format);
    vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    snprintf(command, sizeof(command), "TRANCHE_SIM=%s %s sim %s >/dev/null", agent->sim, program(),
             words);
    int status = system(command);
    if (status != 0)
        fail_msg("%s: %d", command, WEXITSTATUS(status));
}

static void on_over(struct child *child, const struct child_exit *exit, void *user)
{
    struct agent_process *agent = user;

    agent->over = true;
    agent->status = exit->status;
    agent->signum = exit->signum;
    free(agent->out);
    free(agent->errors);
    agent->out = strndup(exit->out.ptr ? exit->out.ptr : "", exit->out.len);
    agent->errors = strndup(exit->err.ptr ? exit->err.ptr : "", exit->err.len);
}

/* The name decides what the program is, so it is called through a link of that name. */
static void link_name(const struct agent_process *agent, char *path, size_t size)
{
    char bin[128];

    snprintf(bin, sizeof(bin), "%s/bin", agent->dir);
    assert_int_equal(file_make_dirs(bin, 0700, NULL), 0);
    snprintf(path, size, "%s/%s", bin, agent->name);
    unlink(path);
    assert_int_equal(symlink(program(), path), 0);
}

void agent_process_start(struct agent_process *agent, const char *const *args)
{
    const char *argv[AGENT_MAX_ARGS + 2] = {};
    char path[256];
    struct err err = {};

    link_name(agent, path, sizeof(path));
    argv[0] = path;
    for (size_t i = 0; args && args[i]; i++)
        argv[i + 1] = args[i];
    const struct child_spec spec = { .argv = argv,
                                     .env = (const char *const *)agent->env,
                                     .output_max = MIB(1) };
    child_free(steal(agent->child));
    agent->over = false;
    if (child_spawn(agent->loop, &spec, on_over, agent, &agent->child, &err) < 0)
        fail_msg("%s", err.text);
}

void agent_process_signal(struct agent_process *agent, int signum)
{
    child_signal(agent->child, signum);
}

static bool is_over(void *user)
{
    return ((struct agent_process *)user)->over;
}

int agent_process_wait(struct agent_process *agent)
{
    assert_true(scripted_wait(agent->loop, is_over, agent));
    return agent->signum ? -agent->signum : agent->status;
}

void agent_process_begin(struct agent_process *agent)
{
    scripted_kubelet_start(&agent->kubelet, agent->loop, agent->plugins);
    agent_process_start(agent, NULL);
}

size_t agent_process_memory(const struct agent_process *agent)
{
    char path[64];
    unsigned long size, resident;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)child_pid(agent->child));
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &size, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

void agent_process_idle(struct agent_process *agent, uint64_t ms)
{
    uint64_t end = loop_now_ns(agent->loop) + ms * 1000000;

    while (loop_now_ns(agent->loop) < end)
        loop_wait(agent->loop, 10);
}
