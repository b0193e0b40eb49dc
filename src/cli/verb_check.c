/*
 * tranche check FILE…: is this configuration right? As compilers say it:
 *
 *     config.yaml:9:23: error: number of replicas must be >= 2; a GPU that is not shared …
 *         9 |             replicas: 1
 *           |                       ^
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>

#include "base/file.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "share/manifest.h"

enum { EXIT_GOOD, EXIT_FAILED, EXIT_MISTAKES };

static const char help[] =
    "Usage: tranche check [-o FORMAT] FILE...\n"
    "\n"
    "Says what is wrong in a configuration, where, and what would be right, before a\n"
    "node has to. FILE (- is standard input) may be\n"
    "  - a configuration of the device plugin and feature discovery\n"
    "  - a file of MIG configurations\n"
    "  - hooks or a checkpoint of nvidia-mig-parted\n"
    "  - Kubernetes objects: each entry of a ConfigMap that is one of the above, a\n"
    "    ClusterPolicy, a List of them, several documents\n"
    "\n"
    "  -o, --output FORMAT  text, json or yaml  (default text)\n"
    "  -h, --help\n"
    "\n"
    "Exit status: 0 no mistakes (perhaps warnings), 1 a file cannot be read,\n"
    "2 mistakes.\n"
    "\n"
    "Examples:\n"
    "  tranche check time-slicing-config.yaml\n"
    "  kubectl get configmap mps-config -o yaml | tranche check -\n";

/* One file and what was found in it; all in its arena. */
struct checked {
    const char *name; /* as given; "-" is called "standard input" */
    struct span text;
    struct findings findings;
    struct manifest manifest;
    int result; /* number of errors, or negative: it could not be read */
    struct err err;
};

/* ---- what may be shown ---- */

/* The next character of a line as it may be shown: whatever a terminal would obey is a `?`. Returns
 * its length in the line. */
static size_t next_character(struct span line, char ret[static 8])
{
    size_t len = text_utf8_char(line);
    unsigned char c = (unsigned char)line.ptr[0];
    bool control = c < 0x20 || c == 0x7F || (len == 2 && c == 0xC2 && (line.ptr[1] & 0xE0) == 0x80);

    memcpy(ret, "?", 2);
    if (c == '\t')
        ret[0] = ' ';
    else if (len > 0 && !control) {
        memcpy(ret, line.ptr, len);
        ret[len] = '\0';
    }
    return len > 0 ? len : 1;
}

/* A copy that may be shown, and that JSON can say: a file's name may be any bytes. NULL without
 * memory. */
static const char *harmless(struct arena *arena, const char *text)
{
    struct span rest = span_of(text);
    char *copy = arena_alloc(arena, rest.len + 1), *end = copy;
    char character[8];

    while (copy && rest.len > 0) {
        size_t len = next_character(rest, character);
        end = stpcpy(end, character); /* never longer than what it stands for */
        rest = (struct span){ .ptr = rest.ptr + len, .len = rest.len - len };
    }
    return copy;
}

/* ---- reading ---- */

static int read_input(struct arena *arena, struct span *ret, struct err *err)
{
    auto_(buf_done) struct buf content = BUF_MAX(MANIFEST_MAX_BYTES);
    int r = buf_read_all(&content, STDIN_FILENO, err);

    if (r < 0)
        return err_wrap(err, r, "standard input");
    ret->len = content.len;
    ret->ptr = arena_spandup(arena, buf_span(&content));
    return ret->ptr ? 0 : err_no_memory(err);
}

/* Texts of findings are made harmless where they are made of: the YAML reader lets no controls and
 * no broken UTF-8 pass. What escapes may bring in again is caught here. */
static int make_harmless(struct checked *file, struct arena *arena)
{
    for (size_t i = 0; i < file->findings.n; i++) {
        struct finding *finding = &file->findings.items[i];
        finding->text = harmless(arena, finding->text);
        finding->advice = finding->advice ? harmless(arena, finding->advice) : NULL;
        if (!finding->text)
            return err_no_memory(&file->err);
    }
    for (size_t i = 0; i < file->manifest.n_subjects; i++) {
        file->manifest.subjects[i].what = harmless(arena, file->manifest.subjects[i].what);
        if (!file->manifest.subjects[i].what)
            return err_no_memory(&file->err);
    }
    return file->result;
}

/* Too large is a mistake in the file; not to be read at all is not. */
static void check_file(const char *path, struct arena *arena, struct checked *ret)
{
    bool input = text_equal(path, "-");

    *ret = (struct checked){ .name = harmless(arena, input ? "standard input" : path) ?: "file",
                             .findings.arena = arena };
    int r = input ? read_input(arena, &ret->text, &ret->err)
                  : file_read(AT_FDCWD, path, MANIFEST_MAX_BYTES, arena, &ret->text, &ret->err);
    if (r == -EFBIG)
        finding_add(&ret->findings, FINDING_ERROR, (struct place){}, NULL,
                    "larger than %d MiB, which no configuration is", MANIFEST_MAX_BYTES >> 20);
    if (r == 0)
        r = manifest_check(ret->text, &ret->findings, &ret->manifest, &ret->err);
    ret->result = r == -EFBIG ? (int)ret->findings.n_errors : r;
    if (ret->result >= 0)
        ret->result = make_harmless(ret, arena);
}

/* ---- text for a person ---- */

static bool find_line(struct span text, unsigned number, struct span *ret)
{
    bool more = true;

    for (unsigned i = 1; span_split(&text, '\n', &more, ret); i++)
        if (i == number)
            return true;
    return false;
}

/* The line, or of a long one the part around the column, and a caret below the column. */
static void print_excerpt(FILE *to, struct span line, struct place place, bool colour)
{
    enum { WIDTH = 110, BEFORE = 70 };
    unsigned first = place.column > WIDTH ? place.column - BEFORE : 1, at = 1;
    size_t caret = first > 1 ? strlen("...") : 0;
    char character[8];

    fprintf(to, "%5u | %s", place.line, first > 1 ? "..." : "");
    for (; line.len > 0 && line.ptr[0] != '\r' && at < first + WIDTH; at++) {
        size_t len = next_character(line, character);
        line = (struct span){ .ptr = line.ptr + len, .len = line.len - len };
        if (at < first)
            continue;
        fputs(character, to);
        if (at < place.column)
            caret += table_text_width(character);
    }
    fprintf(to, "%s\n      | %*s%s^%s\n", line.len > 1 ? "..." : "", (int)caret, "",
            output_style(colour, STYLE_GOOD), output_unstyle(colour, STYLE_GOOD));
}

static void print_finding(FILE *to, const struct checked *file, const struct finding *finding,
                          bool colour)
{
    bool warning = finding->kind == FINDING_WARNING;
    enum output_style style = warning ? STYLE_WARN : STYLE_BAD;
    struct span line;

    fputs(file->name, to);
    if (finding->place.line > 0)
        fprintf(to, ":%u:%u", finding->place.line, finding->place.column);
    fprintf(to, ": %s%s:%s ", output_style(colour, style), warning ? "warning" : "error",
            output_unstyle(colour, style));
    fputs(finding->text, to);
    if (finding->advice)
        fprintf(to, "; %s", finding->advice);
    fputc('\n', to);
    if (finding->place.line > 0 && find_line(file->text, finding->place.line, &line))
        print_excerpt(to, line, finding->place, colour);
}

static void print_count(FILE *to, size_t n, const char *what)
{
    fprintf(to, "%zu %s%s", n, what, n == 1 ? "" : "s");
}

/* The last word about a file, so that no answer is ever taken for a good one. */
static void print_summary(FILE *to, const struct checked *file)
{
    const struct findings *findings = &file->findings;

    if (findings->n_left_out > 0) {
        fputs(file->name, to);
        fprintf(to, ": %zu more like these\n", findings->n_left_out);
    }
    fputs(file->name, to);
    fputs(": ", to);
    if (findings->n_errors == 0 && findings->n_warnings == 0)
        fputs(file->manifest.n_subjects > 0 ? "no mistakes" : "nothing in it to check", to);
    if (findings->n_errors > 0)
        print_count(to, findings->n_errors, "error");
    if (findings->n_errors > 0 && findings->n_warnings > 0)
        fputs(", ", to);
    if (findings->n_warnings > 0)
        print_count(to, findings->n_warnings, "warning");
    for (size_t i = 0; i < file->manifest.n_subjects; i++) {
        fputs(i > 0 ? "; " : " in: ", to);
        fputs(file->manifest.subjects[i].what, to);
    }
    fputc('\n', to);
}

static void print_text(const struct checked *file)
{
    bool colour = output_colour(stdout);

    if (file->result < 0) {
        output_fail("check", &file->err);
        return;
    }
    for (size_t i = 0; i < file->findings.n; i++)
        print_finding(stdout, file, &file->findings.items[i], colour);
    print_summary(stdout, file);
}

/* ---- values for a program ---- */

static json_t *finding_value(const struct finding *finding)
{
    return json_pack("{s:s, s:I, s:I, s:s, s:s*}", "severity",
                     finding->kind == FINDING_WARNING ? "warning" : "error", "line",
                     (json_int_t)finding->place.line, "column", (json_int_t)finding->place.column,
                     "message", finding->text, "advice", finding->advice);
}

static json_t *subject_value(const struct manifest_subject *subject)
{
    return json_pack("{s:s, s:I, s:I}", "what", subject->what, "line",
                     (json_int_t)subject->place.line, "column", (json_int_t)subject->place.column);
}

static json_t *file_value(const struct checked *file)
{
    const struct findings *findings = &file->findings;
    auto_(json_decrefp) json_t *found = json_array(), *subjects = json_array();

    if (file->result < 0)
        return json_pack("{s:s, s:s}", "file", file->name, "failure",
                         harmless(file->findings.arena, file->err.text));
    for (size_t i = 0; i < findings->n; i++)
        json_array_append_new(found, finding_value(&findings->items[i]));
    for (size_t i = 0; i < file->manifest.n_subjects; i++)
        json_array_append_new(subjects, subject_value(&file->manifest.subjects[i]));
    return json_pack("{s:s, s:I, s:I, s:I, s:O, s:O}", "file", file->name, "errors",
                     (json_int_t)findings->n_errors, "warnings", (json_int_t)findings->n_warnings,
                     "leftOut", (json_int_t)findings->n_left_out, "subjects", subjects, "findings",
                     found);
}

static int print_values(const json_t *files, enum output_format format)
{
    auto_(json_decrefp) json_t *answer = json_pack("{s:O}", "files", files);
    struct err err = {};
    int r = answer ? output_print(stdout, format, answer, &err) : err_no_memory(&err);

    return r < 0 ? output_fail("check", &err) : 0;
}

/* ---- the verb ---- */

static int exit_code(const struct checked *file)
{
    return file->result < 0 ? EXIT_FAILED : file->result > 0 ? EXIT_MISTAKES : EXIT_GOOD;
}

static int no_memory(void)
{
    struct err err = {};

    err_no_memory(&err);
    return output_fail("check", &err);
}

static int check_files(char **paths, int n, enum output_format format)
{
    auto_(json_decrefp) json_t *files = json_array();
    int code = EXIT_GOOD;

    for (int i = 0; i < n; i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MANIFEST_ARENA_BYTES);
        struct checked file;
        check_file(paths[i], &arena, &file);
        code = MAX(code, exit_code(&file));
        if (format == OUTPUT_TEXT)
            print_text(&file);
        else if (json_array_append_new(files, file_value(&file)) < 0)
            return no_memory();
    }
    if (format != OUTPUT_TEXT && print_values(files, format) != 0)
        return EXIT_FAILED;
    return code;
}

static int misused(const struct err *err)
{
    output_fail("check", err);
    return EXIT_MISTAKES;
}

int verb_check(int argc, char **argv)
{
    static const struct option long_options[] = { { "output", required_argument, NULL, 'o' },
                                                  { "help", no_argument, NULL, 'h' },
                                                  {} };
    enum output_format format = OUTPUT_TEXT;
    struct err err = {};
    int option;

    optind = 1;
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":o:h", long_options, NULL)) != -1) {
        if (option == 'h')
            return fputs(help, stdout) < 0;
        if (option == ':')
            err_set(&err, EINVAL, "%s wants a value", argv[optind - 1]);
        else if (option != 'o')
            err_set(&err, EINVAL, "unknown option %s; tranche check --help lists them",
                    argv[optind - 1]);
        if (option != 'o' || output_format_parse(optarg, &format, &err) < 0)
            return misused(&err);
    }
    if (optind == argc) {
        err_set(&err, EINVAL, "which file? tranche check --help says more");
        return misused(&err);
    }
    for (int i = optind; i < argc; i++)
        if (!*argv[i]) {
            err_set(&err, EINVAL, "the name of file %d is empty; - is standard input",
                    i - optind + 1);
            return misused(&err);
        }
    return check_files(argv + optind, argc - optind, format);
}
