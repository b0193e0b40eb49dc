#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "net/watch.h"

struct rig {
    struct loop *loop;
    char dir[64];
    struct watch *watch;
    struct buf story;
    bool free_inside;
};

static void on_event(struct watch *watch, enum watch_event event, const char *name, void *user)
{
    static const char letters[WATCH_N_EVENTS] = {
        [WATCH_CREATED] = '+', [WATCH_DELETED] = '-', [WATCH_WRITTEN] = '=',
        [WATCH_LOST] = '?',    [WATCH_GONE] = '!',
    };
    struct rig *rig = user;

    buf_printf(&rig->story, "%c%s ", letters[event], name);
    if (rig->free_inside) {
        watch_free(watch);
        rig->watch = NULL;
    }
}

static int set_up(void **state)
{
    static struct rig rig;

    rig = (struct rig){ .story = BUF_MAX(KIB(4)) };
    strcpy(rig.dir, "/tmp/tranche-watch-XXXXXX");
    *state = &rig;
    return !mkdtemp(rig.dir) || loop_new_manual(&rig.loop, NULL) < 0 ||
           watch_new(rig.loop, rig.dir, on_event, &rig, &rig.watch, NULL) < 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    watch_free(rig->watch);
    loop_free(rig->loop);
    buf_done(&rig->story);
    return file_remove_tree(rig->dir, NULL);
}

static const char *in(struct rig *rig, const char *name)
{
    static char paths[2][160];
    static unsigned turn;
    char *path = paths[turn++ % 2];

    snprintf(path, 160, "%s/%s", rig->dir, name);
    return path;
}

static void touch(struct rig *rig, const char *name)
{
    int fd = open(in(rig, name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

static void settle(struct rig *rig)
{
    while (loop_poll(rig->loop)) {
    }
}

static void names_that_come_and_go_are_reported(void **state)
{
    struct rig *rig = *state;

    touch(rig, "a");
    assert_int_equal(mkdir(in(rig, "d"), 0700), 0);
    assert_int_equal(rename(in(rig, "a"), in(rig, "b")), 0);
    assert_int_equal(unlink(in(rig, "b")), 0);
    settle(rig);
    assert_string_equal(buf_text(&rig->story), "+a =a +d -a +b -b ");
}

static void a_replaced_file_appears_again(void **state)
{
    struct rig *rig = *state;

    touch(rig, "config");
    touch(rig, "new");
    settle(rig);
    buf_reset(&rig->story);
    assert_int_equal(rename(in(rig, "new"), in(rig, "config")), 0);
    settle(rig);
    assert_string_equal(buf_text(&rig->story), "-new +config ");
}

static void a_directory_that_vanishes_is_the_last_event(void **state)
{
    struct rig *rig = *state;

    touch(rig, "a");
    assert_int_equal(file_remove_tree(rig->dir, NULL), 0);
    settle(rig);
    assert_string_equal(buf_text(&rig->story), "+a =a -a ! ");
    assert_int_equal(mkdir(rig->dir, 0700), 0);
    touch(rig, "b");
    settle(rig);
    assert_string_equal(buf_text(&rig->story), "+a =a -a ! ");
}

static void a_directory_that_is_moved_away_is_gone(void **state)
{
    struct rig *rig = *state;
    char elsewhere[80];

    snprintf(elsewhere, sizeof(elsewhere), "%s.moved", rig->dir);
    assert_int_equal(rename(rig->dir, elsewhere), 0);
    settle(rig);
    assert_string_equal(buf_text(&rig->story), "! ");
    assert_int_equal(file_remove_tree(elsewhere, NULL), 0);
}

static void the_callback_may_free_the_watch(void **state)
{
    struct rig *rig = *state;

    rig->free_inside = true;
    touch(rig, "a");
    touch(rig, "b");
    settle(rig);
    assert_string_equal(buf_text(&rig->story), "+a ");
    assert_null(rig->watch);
}

static void many_events_in_one_turn_all_arrive(void **state)
{
    struct rig *rig = *state;
    char name[80], want[200];

    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "a-rather-long-name-so-that-one-read-is-not-enough-%d", i);
        touch(rig, name);
        settle(rig);
        snprintf(want, sizeof(want), "+%s =%s ", name, name);
        assert_string_equal(buf_text(&rig->story), want);
        buf_reset(&rig->story);
    }
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "x%d", i);
        touch(rig, name);
    }
    settle(rig);
    assert_non_null(strstr(buf_text(&rig->story), "+x99 =x99 "));
}

static void what_cannot_be_watched_is_explained(void **state)
{
    struct rig *rig = *state;
    struct watch *watch;
    struct err err;

    assert_int_equal(watch_new(rig->loop, in(rig, "none"), on_event, rig, &watch, &err), -ENOENT);
    assert_non_null(strstr(err.text, "none"));
    touch(rig, "file");
    assert_int_equal(watch_new(rig->loop, in(rig, "file"), on_event, rig, &watch, &err), -ENOTDIR);
}

#define WATCH_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(names_that_come_and_go_are_reported),
        WATCH_TEST(a_replaced_file_appears_again),
        WATCH_TEST(a_directory_that_vanishes_is_the_last_event),
        WATCH_TEST(a_directory_that_is_moved_away_is_gone),
        WATCH_TEST(the_callback_may_free_the_watch),
        WATCH_TEST(many_events_in_one_turn_all_arrive),
        WATCH_TEST(what_cannot_be_watched_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
