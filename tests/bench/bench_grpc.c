/*
 * How long a unary call takes over a unix socket between two processes, our client and our server:
 * `bench_grpc [CALLS] [BYTES]`. Prints percentiles in microseconds, and the server's memory.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "net/grpc_client.h"
#include "net/grpc_server.h"

struct bench {
    struct loop *loop;
    struct grpc_client *client;
    size_t n_calls, n_done;
    double *micros;
    struct span request;
    uint64_t begun_ns;
};

static void on_echo(struct grpc_call *call, struct span request, void *user)
{
    grpc_call_reply(call, request);
}

static const struct grpc_method methods[] = { { "/bench.Test/Echo", GRPC_UNARY, on_echo } };

static void serve(const char *path)
{
    struct loop *loop;
    struct grpc_server *server;
    struct err err = {};

    if (loop_new(&loop, &err) < 0 || grpc_server_new(loop, NULL, &server, &err) < 0 ||
        grpc_server_add(server, methods, 1, NULL, &err) < 0 ||
        grpc_server_listen(server, path, NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        _exit(1);
    }
    loop_run(loop);
}

static void call(struct bench *bench);

static void on_done(void *user, const struct grpc_status *status, struct span response)
{
    struct bench *bench = user;

    if (status->code != GRPC_OK) {
        fprintf(stderr, "%s\n", status->message);
        exit(1);
    }
    bench->micros[bench->n_done++] = (double)(loop_now_ns(bench->loop) - bench->begun_ns) / 1000;
    if (bench->n_done < bench->n_calls)
        call(bench);
    else
        loop_stop(bench->loop);
}

static void call(struct bench *bench)
{
    struct grpc_call_options options = {
        .path = "/bench.Test/Echo",
        .timeout_ms = 10000,
        .wait_for_ready = true,
    };

    bench->begun_ns = loop_now_ns(bench->loop);
    if (grpc_client_unary(bench->client, &options, bench->request, on_done, bench, NULL, NULL) < 0)
        exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(struct bench *bench, pid_t server)
{
    char path[64], line[256];
    double *micros = bench->micros;
    size_t n = bench->n_calls;

    qsort(micros, n, sizeof(*micros), by_value);
    printf("%zu calls of %zu bytes: p50 %.1f us, p90 %.1f us, p99 %.1f us, max %.1f us\n", n,
           bench->request.len, micros[n / 2], micros[n * 9 / 10], micros[n * 99 / 100],
           micros[n - 1]);
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)server);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (text_starts(line, "Rss") || text_starts(line, "Pss:") || text_starts(line, "Private"))
            printf("server %s", line);
    if (file)
        fclose(file);
}

int main(int argc, char **argv)
{
    struct bench bench = { .n_calls = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000 };
    size_t len = argc > 2 ? strtoul(argv[2], NULL, 10) : 100;
    char dir[] = "/tmp/tranche-bench-XXXXXX", path[64];

    if (!mkdtemp(dir) || bench.n_calls == 0)
        return 1;
    snprintf(path, sizeof(path), "%s/s.sock", dir);
    pid_t server = fork();
    if (server == 0) {
        serve(path);
        _exit(0);
    }
    bench.micros = calloc(bench.n_calls, sizeof(*bench.micros));
    bench.request = (struct span){ calloc(1, len + 1), len };
    struct grpc_client_options options = { .backoff = { 5, 20 } };
    if (loop_new(&bench.loop, NULL) < 0 ||
        grpc_client_new(bench.loop, path, &options, &bench.client, NULL) < 0)
        return 1;
    call(&bench);
    loop_run(bench.loop);
    report(&bench, server);
    grpc_client_free(bench.client);
    loop_free(bench.loop);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    free(bench.micros);
    free((char *)bench.request.ptr);
    return file_remove_tree(dir, NULL) < 0;
}
