#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"

/* Each test has a folder of its own as the current directory. */
static int enter_folder(void **state)
{
    char folder[] = "/tmp/test_file.XXXXXX";

    if (!mkdtemp(folder) || chdir(folder) < 0)
        return -1;
    *state = strdup(folder);
    return *state ? 0 : -1;
}

static int leave_folder(void **state)
{
    auto_free char *folder = *state;

    return chdir("/") < 0 ? -1 : file_remove_tree(folder, NULL);
}

static void put(const char *path, struct span content)
{
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_int_equal(write(fd, content.ptr, content.len), content.len);
}

static void a_file_is_read_whole(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct span content;

    put("a", SPAN("one\0two"));
    assert_int_equal(file_read(AT_FDCWD, "a", 7, &arena, &content, NULL), 0);
    assert_true(span_equal(content, SPAN("one\0two")));
    assert_int_equal(content.ptr[7], '\0');
    assert_int_equal(file_read(AT_FDCWD, "/dev/null", 7, &arena, &content, NULL), 0);
    assert_int_equal(content.len, 0);
}

static void what_cannot_be_read_is_named(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct span content;
    struct err err = {};

    assert_int_equal(file_read(AT_FDCWD, "gone", 10, &arena, &content, &err), -ENOENT);
    assert_string_equal(err.text, "gone: cannot open: No such file or directory");
    assert_int_equal(file_read(AT_FDCWD, "/tmp", 10, &arena, &content, &err), -EISDIR);
    assert_string_equal(err.text, "/tmp: cannot read it: Is a directory");
    put("big", SPAN("12345678"));
    assert_int_equal(file_read(AT_FDCWD, "big", 7, &arena, &content, &err), -EFBIG);
    assert_string_equal(err.text, "big: it is larger than 7 bytes");
}

static void a_line_loses_its_end(void **state)
{
    static const struct {
        struct span content;
        const char *line;
    } cases[] = {
        { SPAN("Tesla\n"), "Tesla" }, { SPAN(" a b \t\r\n\n"), " a b" }, { SPAN(""), "" },
        { SPAN("\n"), "" },           { SPAN("a\nb\n"), NULL },          { SPAN("a\0b"), NULL },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
        char *line = NULL;
        put("line", cases[i].content);
        int r = file_read_line(AT_FDCWD, "line", &arena, &line, NULL);
        assert_int_equal(r, cases[i].line ? 0 : -EINVAL);
        if (cases[i].line)
            assert_string_equal(line, cases[i].line);
    }
}

static size_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    size_t n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 2; /* . and .. */
}

static void replace_writes_content_and_mode_and_leaves_nothing_beside(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct span content;
    struct stat st;
    struct err err = {};

    assert_int_equal(mkdir("d", 0755), 0);
    assert_int_equal(file_replace(AT_FDCWD, "d/f", SPAN("old"), 0600, &err), 0);
    assert_int_equal(file_replace(AT_FDCWD, "d/f", SPAN("new"), 0644, &err), 0);
    assert_int_equal(file_read(AT_FDCWD, "d/f", 100, &arena, &content, &err), 0);
    assert_true(span_equal(content, SPAN("new")));
    assert_int_equal(stat("d/f", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(count_entries("d"), 1);
}

static void replace_is_relative_to_the_directory_given(void **state)
{
    assert_int_equal(mkdir("d", 0755), 0);
    auto_close int dir = open("d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(file_replace(dir, "f", SPAN("x"), 0600, NULL), 0);
    assert_true(file_exists("d/f"));
}

static void replace_never_follows_a_link_that_stands_in_its_place(void **state)
{
    put("precious", SPAN("kept"));
    assert_int_equal(symlink("precious", "link"), 0);
    assert_int_equal(file_replace(AT_FDCWD, "link", SPAN("x"), 0600, NULL), 0);

    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct span content;
    assert_int_equal(file_read(AT_FDCWD, "precious", 100, &arena, &content, NULL), 0);
    assert_true(span_equal(content, SPAN("kept")));
}

static void replace_that_fails_leaves_nothing_behind(void **state)
{
    struct err err = {};

    assert_int_equal(file_replace(AT_FDCWD, "no/f", SPAN("x"), 0600, &err), -ENOENT);
    assert_true(text_starts(err.text, "no/f: cannot open its directory: "));
    assert_int_equal(mkdir("d", 0755), 0);
    assert_int_equal(mkdir("d/f", 0755), 0);
    assert_int_equal(file_replace(AT_FDCWD, "d/f", SPAN("x"), 0600, &err), -EISDIR);
    assert_true(text_starts(err.text, "d/f: cannot write: "));
    assert_int_equal(count_entries("d"), 1);
}

static void make_dirs_makes_what_is_missing(void **state)
{
    struct err err = {};

    assert_int_equal(file_make_dirs("a/b//c/", 0755, &err), 0);
    assert_int_equal(file_make_dirs("a/b/c", 0755, &err), 0);
    assert_int_equal(file_make_dirs("/tmp", 0755, &err), 0);
    assert_true(file_exists("a/b/c"));
    put("a/file", SPAN(""));
    assert_int_equal(file_make_dirs("a/file", 0755, &err), -ENOTDIR);
    assert_string_equal(err.text, "a/file: it exists and is not a directory");
    assert_int_equal(file_make_dirs("a/file/b", 0755, &err), -ENOTDIR);
    assert_int_equal(file_make_dirs("", 0755, &err), -ENOENT);
}

static void remove_tree_removes_all_but_never_through_a_link(void **state)
{
    assert_int_equal(file_make_dirs("out/side", 0755, NULL), 0);
    put("out/side/precious", SPAN("kept"));
    assert_int_equal(file_make_dirs("t/a/b", 0755, NULL), 0);
    put("t/a/b/f", SPAN("x"));
    assert_int_equal(symlink("../../out", "t/a/link"), 0);
    assert_int_equal(symlink("out", "top"), 0);

    assert_int_equal(file_remove_tree("t", NULL), 0);
    assert_false(file_exists("t"));
    assert_int_equal(file_remove_tree("top", NULL), 0);
    assert_false(file_exists("top"));
    assert_true(file_exists("out/side/precious"));
}

static void remove_tree_of_nothing_is_success(void **state)
{
    assert_int_equal(file_remove_tree("gone", NULL), 0);
}

static void remove_tree_gives_up_on_bottomless_trees(void **state)
{
    struct err err = {};

    for (int i = 0; i < 200; i++) {
        assert_int_equal(mkdir("d", 0755), 0);
        assert_int_equal(chdir("d"), 0);
    }
    assert_int_equal(chdir(*state), 0);
    assert_int_equal(file_remove_tree("d", &err), -ELOOP);
    assert_string_equal(err.text, "d: cannot remove: more than 128 levels deep");

    /* Lift the lower half up, so that the folder can be cleared. */
    for (int i = 0; i < 100; i++)
        assert_int_equal(chdir("d"), 0);
    char upper[200];
    snprintf(upper, sizeof(upper), "%s/lower", (const char *)*state);
    assert_int_equal(rename("d", upper), 0);
    assert_int_equal(chdir(*state), 0);
}

static void devices_are_told_from_files(void **state)
{
    put("f", SPAN(""));
    assert_true(file_exists("f"));
    assert_false(file_is_char_device("f"));
    assert_true(file_is_char_device("/dev/null"));
    assert_false(file_exists("gone"));
    assert_false(file_is_char_device("gone"));
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_file_is_read_whole),
        IN_FOLDER(what_cannot_be_read_is_named),
        IN_FOLDER(a_line_loses_its_end),
        IN_FOLDER(replace_writes_content_and_mode_and_leaves_nothing_beside),
        IN_FOLDER(replace_is_relative_to_the_directory_given),
        IN_FOLDER(replace_never_follows_a_link_that_stands_in_its_place),
        IN_FOLDER(replace_that_fails_leaves_nothing_behind),
        IN_FOLDER(make_dirs_makes_what_is_missing),
        IN_FOLDER(remove_tree_removes_all_but_never_through_a_link),
        IN_FOLDER(remove_tree_of_nothing_is_success),
        IN_FOLDER(remove_tree_gives_up_on_bottomless_trees),
        IN_FOLDER(devices_are_told_from_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
