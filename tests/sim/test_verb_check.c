/* `tranche check` as a person and a program see it: what it prints, and how it ends. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "cli/verbs.h"
#include "codec/json.h"

struct bench {
    char dir[64], path[128];
    char *out, *errors; /* what the last run printed */
};

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));

    assert_non_null(bench);
    *state = bench;
    snprintf(bench->dir, sizeof(bench->dir), "/tmp/test-verb-check-XXXXXX");
    assert_non_null(mkdtemp(bench->dir));
    snprintf(bench->path, sizeof(bench->path), "%s/f.yaml", bench->dir);
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    int r = file_remove_tree(bench->dir, NULL);

    free(bench->out);
    free(bench->errors);
    free(bench);
    return r;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static char *read_back(int fd)
{
    auto_(buf_done) struct buf content = BUF_MAX(MIB(16));

    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(buf_read_all(&content, fd, NULL), 0);
    return strdup(buf_text(&content));
}

/* Runs the verb with `input` on its standard input; its exit code. */
static int run(struct bench *bench, const char *input, const char *const *words)
{
    int fds[3], saved[3], argc = 0;
    char *argv[8] = {};

    for (; words[argc]; argc++)
        argv[argc] = strdup(words[argc]);
    fflush(NULL);
    for (int i = 0; i < 3; i++) {
        fds[i] = memfd_create("stream", MFD_CLOEXEC);
        saved[i] = dup(i);
        assert_true(fds[i] >= 0 && saved[i] >= 0);
        if (i == 0) {
            assert_int_equal(write(fds[i], input, strlen(input)), strlen(input));
            assert_int_equal(lseek(fds[i], 0, SEEK_SET), 0);
        }
        assert_true(dup2(fds[i], i) >= 0);
    }
    int code = verb_check(argc, argv);
    fflush(NULL);
    for (int i = 0; i < 3; i++) {
        dup2(saved[i], i);
        close(saved[i]);
    }
    free(bench->out);
    free(bench->errors);
    bench->out = read_back(fds[1]);
    bench->errors = read_back(fds[2]);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    while (argc > 0)
        free(argv[--argc]);
    return code;
}

#define RUN(bench, input, ...)                                                                     \
    run(bench, input, (const char *const[]){ "check", __VA_ARGS__, NULL })

static void put(struct bench *bench, struct span text)
{
    assert_int_equal(file_replace(AT_FDCWD, bench->path, text, 0600, NULL), 0);
}

static void assert_says(const char *text, const char *want)
{
    if (!strstr(text, want))
        fail_msg("wanted \"%s\" in \"%s\"", want, text);
}

static void a_good_file_is_called_so_and_ends_with_0(void **state)
{
    struct bench *bench = *state;

    put(bench, SPAN("version: v1\nflags: {migStrategy: none}\n"));
    assert_int_equal(RUN(bench, "", bench->path), 0);
    assert_says(bench->out, "f.yaml: no mistakes in: device plugin configuration\n");
    assert_string_equal(bench->errors, "");
}

static void a_warning_is_no_mistake(void **state)
{
    struct bench *bench = *state;

    assert_int_equal(RUN(bench, "bananas: 3\n", "-"), 0);
    assert_string_equal(bench->out, "standard input:1:1: warning: unknown key `bananas`, ignored\n"
                                    "    1 | bananas: 3\n"
                                    "      | ^\n"
                                    "standard input: 1 warning in: device plugin configuration\n");
}

static void a_mistake_has_a_line_and_a_caret_and_ends_with_2(void **state)
{
    struct bench *bench = *state;
    static const char input[] = "sharing:\n  timeSlicing:\n    resources:\n"
                                "\t# tabs are fine here\n"
                                "    - name: gpu\n      replicas:   1\n";

    assert_int_equal(RUN(bench, input, "-"), 2);
    assert_string_equal(bench->out,
                        "standard input:6:19: error: number of replicas must be >= 2; a GPU that "
                        "is not shared needs no entry\n"
                        "    6 |       replicas:   1\n"
                        "      |                   ^\n"
                        "standard input: 1 error in: device plugin configuration\n");
}

static void the_caret_stands_below_wide_characters(void **state)
{
    struct bench *bench = *state;

    assert_int_equal(RUN(bench, "{é: 東京, flags: 3}\n", "-"), 2);
    assert_says(bench->out, "    1 | {é: 東京, flags: 3}\n"
                            "      |                  ^\n");
}

static void a_long_line_is_shown_around_its_column(void **state)
{
    struct bench *bench = *state;
    auto_(buf_done) struct buf text = BUF_MAX(KIB(64));

    buf_add_text(&text, "{x: [");
    for (int i = 0; i < 500; i++)
        buf_printf(&text, "%d, ", i);
    buf_add_text(&text, "], flags: 3, y: [");
    for (int i = 0; i < 500; i++)
        buf_printf(&text, "%d, ", i);
    buf_add_text(&text, "]}\n");
    assert_int_equal(RUN(bench, buf_text(&text), "-"), 2);
    assert_says(bench->out, " | ...");
    assert_says(bench->out, "flags: 3, y: [0, 1, ");
    const char *line = strstr(bench->out, "flags: 3"), *caret = strstr(line, "^");
    while (line > bench->out && line[-1] != '\n')
        line--;
    const char *caret_line = caret;
    while (caret_line[-1] != '\n')
        caret_line--;
    assert_int_equal(line[caret - caret_line], '3');
    assert_true(strcspn(line, "\n") < 140);
}

static void several_files_are_each_answered_and_the_worst_counts(void **state)
{
    struct bench *bench = *state;
    char missing[160];

    snprintf(missing, sizeof(missing), "%s/missing", bench->dir);
    put(bench, SPAN("flags: 3\n"));
    assert_int_equal(RUN(bench, "version: v1\n", "-", missing, bench->path), 2);
    assert_says(bench->out, "standard input: no mistakes");
    assert_says(bench->out, "f.yaml: 1 error");
    assert_says(bench->errors, "missing: ");
    assert_int_equal(RUN(bench, "version: v1\n", "-", missing), 1);
    assert_int_equal(RUN(bench, "", bench->dir), 1);
}

static void programs_get_json_or_yaml(void **state)
{
    struct bench *bench = *state;
    auto_(json_decrefp) json_t *json = NULL;
    const char *severity, *message, *advice;
    int errors, line, column;
    char missing[160];

    snprintf(missing, sizeof(missing), "%s/missing\xff", bench->dir);
    assert_int_equal(RUN(bench, "flags: {failOnInitError: \"yes\"}\n", "-o", "json", "-", missing),
                     2);
    assert_int_equal(json_parse(span_of(bench->out), "out", MIB(1), &json, NULL), 0);
    json_t *file = json_array_get(json_object_get(json, "files"), 0);
    assert_int_equal(json_unpack(file, "{s:i, s:[{s:s, s:i, s:i, s:s, s:s}]}", "errors", &errors,
                                 "findings", "severity", &severity, "line", &line, "column",
                                 &column, "message", &message, "advice", &advice),
                     0);
    assert_int_equal(errors, 1);
    assert_int_equal(line, 1);
    assert_int_equal(column, 26);
    assert_string_equal(severity, "error");
    assert_says(message, "json: cannot unmarshal string");
    assert_string_equal(advice, "want true or false, without quotes");
    file = json_array_get(json_object_get(json, "files"), 1);
    assert_says(json_string_value(json_object_get(file, "failure")), "missing?");

    assert_int_equal(RUN(bench, "version: v1\n", "--output=yaml", "-"), 0);
    assert_says(bench->out, "files:\n- file: standard input\n  errors: 0\n");
}

static void a_file_cannot_repaint_the_terminal(void **state)
{
    struct bench *bench = *state;

    assert_int_equal(RUN(bench, "{\"a\\e[2Jb\\x9b\": 1, flags: \"\\e]0;x\\a\"}\n", "-"), 2);
    for (const char *at = bench->out; *at; at++)
        assert_true(*at == '\n' || (unsigned char)*at >= 0x20);
    assert_null(strstr(bench->out, "\xc2\x9b"));
}

static void what_is_too_much_is_one_sentence(void **state)
{
    struct bench *bench = *state;
    auto_(buf_done) struct buf text = BUF_MAX(MIB(5));

    while (text.len <= MIB(4))
        buf_add_text(&text, "# a comment that goes on and on and on and on and on and on and on\n");
    put(bench, buf_span(&text));
    assert_int_equal(RUN(bench, "", bench->path), 2);
    assert_says(bench->out, "f.yaml: error: larger than 4 MiB, which no configuration is\n");

    put(bench, SPAN("a: b\0c\n"));
    assert_int_equal(RUN(bench, "", bench->path), 2);
    assert_says(bench->out, "f.yaml:1:5: error: the control character U+0000 is not allowed\n");

    buf_reset(&text);
    for (int i = 0; i < 100000; i++)
        buf_add_char(&text, '[');
    assert_int_equal(RUN(bench, buf_text(&text), "-"), 2);

    assert_int_equal(RUN(bench, "", "/dev/zero"), 2);
    assert_int_equal(RUN(bench, "", "/dev/null"), 0);
}

static void misuse_is_explained_and_ends_with_2(void **state)
{
    struct bench *bench = *state;

    assert_int_equal(run(bench, "", (const char *const[]){ "check", NULL }), 2);
    assert_says(bench->errors, "tranche check: which file? tranche check --help says more\n");
    assert_int_equal(RUN(bench, "", "--nonsense"), 2);
    assert_says(bench->errors, "unknown option --nonsense");
    assert_int_equal(RUN(bench, "", "-o"), 2);
    assert_says(bench->errors, "-o wants a value");
    assert_int_equal(RUN(bench, "", "-o", "xml", "-"), 2);
    assert_says(bench->errors, "there is no output format \"xml\"");
    assert_int_equal(RUN(bench, "", "--help"), 0);
    assert_says(bench->out, "Usage: tranche check [-o FORMAT] FILE...\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_file_is_called_so_and_ends_with_0),
        TEST(a_warning_is_no_mistake),
        TEST(a_mistake_has_a_line_and_a_caret_and_ends_with_2),
        TEST(the_caret_stands_below_wide_characters),
        TEST(a_long_line_is_shown_around_its_column),
        TEST(several_files_are_each_answered_and_the_worst_counts),
        TEST(programs_get_json_or_yaml),
        TEST(a_file_cannot_repaint_the_terminal),
        TEST(what_is_too_much_is_one_sentence),
        TEST(misuse_is_explained_and_ends_with_2),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
