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

#include "base/file.h"
#include "net/sock.h"

struct place {
    char dir[64], path[96];
};

static int set_up(void **state)
{
    static struct place place;

    strcpy(place.dir, "/tmp/tranche-sock-XXXXXX");
    if (!mkdtemp(place.dir))
        return -1;
    snprintf(place.path, sizeof(place.path), "%s/s.sock", place.dir);
    *state = &place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;

    return file_remove_tree(place->dir, NULL);
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void a_socket_has_its_mode_whatever_the_umask(void **state)
{
    const struct place *place = *state;
    static const unsigned modes[] = { 0, 0600, 0660, 0666, 0777 };
    mode_t before = umask(0077);

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        auto_close int fd = -1;
        struct sock_listen how = { .mode = modes[i] };
        assert_int_equal(sock_listen(place->path, &how, &fd, NULL, NULL), 0);
        assert_int_equal(mode_of(place->path), modes[i] ? modes[i] : 0600);
    }
    umask(before);
}

static void both_ends_can_talk_and_know_each_other(void **state)
{
    const struct place *place = *state;
    auto_close int listener = -1, client = -1, server = -1;
    struct sock_peer peer;
    char c;

    assert_int_equal(sock_listen(place->path, NULL, &listener, NULL, NULL), 0);
    assert_int_equal(sock_accept(listener, &server, NULL), -EAGAIN);
    assert_int_equal(sock_connect(place->path, &client, NULL), 0);
    assert_int_equal(sock_accept(listener, &server, NULL), 0);
    assert_int_equal(sock_peer(server, &peer, NULL), 0);
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.uid, getuid());
    assert_int_equal(write(client, "x", 1), 1);
    assert_int_equal(read(server, &c, 1), 1);
    assert_int_equal(read(server, &c, 1), -1); /* does not block */
    assert_int_equal(errno, EAGAIN);
    assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
}

static void a_socket_that_nobody_listens_on_is_replaced(void **state)
{
    const struct place *place = *state;
    auto_close int again = -1, client = -1;
    struct sock_id before, after, found;
    int fd;

    assert_int_equal(sock_listen(place->path, NULL, &fd, &before, NULL), 0);
    close(fd);
    assert_int_equal(sock_connect(place->path, &client, NULL), -ECONNREFUSED);
    assert_int_equal(sock_listen(place->path, NULL, &again, &after, NULL), 0);
    assert_false(sock_same(&before, &after));
    assert_int_equal(sock_identify(place->path, &found, NULL), 0);
    assert_true(sock_same(&after, &found));
}

static void a_live_socket_stays_unless_it_is_asked_for(void **state)
{
    const struct place *place = *state;
    auto_close int first = -1, second = -1, client = -1, served = -1;
    struct sock_listen take_over = { .replace_live = true };
    struct sock_id id, now;
    struct err err;

    assert_int_equal(sock_listen(place->path, NULL, &first, &id, NULL), 0);
    assert_int_equal(sock_listen(place->path, NULL, &second, NULL, &err), -EADDRINUSE);
    assert_non_null(strstr(err.text, place->path));
    assert_int_equal(sock_identify(place->path, &now, NULL), 0);
    assert_true(sock_same(&id, &now));
    assert_int_equal(sock_listen(place->path, &take_over, &second, NULL, NULL), 0);
    assert_int_equal(sock_connect(place->path, &client, NULL), 0);
    assert_int_equal(sock_accept(second, &served, NULL), 0);
}

static void a_live_socket_with_a_full_queue_counts_as_live(void **state)
{
    const struct place *place = *state;
    auto_close int listener = -1, second = -1;
    struct sock_listen how = { .backlog = 1 };
    int clients[8] = { -1, -1, -1, -1, -1, -1, -1, -1 }, r = 0;

    assert_int_equal(sock_listen(place->path, &how, &listener, NULL, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(clients) && r == 0; i++)
        r = sock_connect(place->path, &clients[i], NULL);
    assert_int_equal(r, -EAGAIN);
    assert_int_equal(sock_listen(place->path, NULL, &second, NULL, NULL), -EADDRINUSE);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        base_close(&clients[i]);
}

static void what_is_not_a_socket_is_never_removed(void **state)
{
    const struct place *place = *state;
    struct sock_listen take_over = { .replace_live = true };
    struct err err;
    int fd;

    assert_int_equal(file_replace(AT_FDCWD, place->path, SPAN("mine"), 0644, NULL), 0);
    assert_int_equal(sock_listen(place->path, &take_over, &fd, NULL, &err), -EEXIST);
    assert_non_null(strstr(err.text, "not a socket"));
    assert_true(file_exists(place->path));
    assert_int_equal(unlink(place->path), 0);
    assert_int_equal(symlink("/nowhere", place->path), 0);
    assert_int_equal(sock_listen(place->path, &take_over, &fd, NULL, NULL), -EEXIST);
    struct stat st;
    assert_int_equal(lstat(place->path, &st), 0);
}

static void only_our_own_file_is_removed_at_the_end(void **state)
{
    const struct place *place = *state;
    auto_close int ours = -1, theirs = -1;
    struct sock_listen take_over = { .replace_live = true };
    struct sock_id our_id, their_id;

    assert_int_equal(sock_listen(place->path, NULL, &ours, &our_id, NULL), 0);
    assert_int_equal(sock_listen(place->path, &take_over, &theirs, &their_id, NULL), 0);
    sock_unlisten(place->path, &our_id);
    assert_true(file_exists(place->path));
    sock_unlisten(place->path, &their_id);
    assert_false(file_exists(place->path));
    sock_unlisten(place->path, &their_id);
}

static void a_path_of_107_bytes_fits_and_one_of_108_is_explained(void **state)
{
    const struct place *place = *state;
    char path[SOCK_MAX_PATH + 2];
    struct err err;
    int fd = -1;

    memset(path, 'a', sizeof(path));
    memcpy(path, place->dir, strlen(place->dir));
    path[strlen(place->dir)] = '/';
    path[SOCK_MAX_PATH + 1] = '\0';
    assert_int_equal(sock_listen(path, NULL, &fd, NULL, &err), -ENAMETOOLONG);
    assert_non_null(strstr(err.text, "107"));
    assert_non_null(strstr(err.text, "108"));
    assert_int_equal(sock_connect(path, &fd, NULL), -ENAMETOOLONG);
    path[SOCK_MAX_PATH] = '\0';
    assert_int_equal(sock_listen(path, NULL, &fd, NULL, NULL), 0);
    close(fd);
    assert_int_equal(sock_listen("", NULL, &fd, NULL, NULL), -EINVAL);
}

static void failures_name_the_path(void **state)
{
    const struct place *place = *state;
    char path[128];
    struct sock_id id;
    struct err err;
    int fd;

    assert_int_equal(sock_connect(place->path, &fd, &err), -ENOENT);
    assert_non_null(strstr(err.text, place->path));
    assert_int_equal(sock_identify(place->path, &id, &err), -ENOENT);
    assert_int_equal(sock_identify(place->dir, &id, &err), -ENOTSOCK);
    snprintf(path, sizeof(path), "%s/missing/s.sock", place->dir);
    assert_int_equal(sock_listen(path, NULL, &fd, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.text, path));
}

#define SOCK_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SOCK_TEST(a_socket_has_its_mode_whatever_the_umask),
        SOCK_TEST(both_ends_can_talk_and_know_each_other),
        SOCK_TEST(a_socket_that_nobody_listens_on_is_replaced),
        SOCK_TEST(a_live_socket_stays_unless_it_is_asked_for),
        SOCK_TEST(a_live_socket_with_a_full_queue_counts_as_live),
        SOCK_TEST(what_is_not_a_socket_is_never_removed),
        SOCK_TEST(only_our_own_file_is_removed_at_the_end),
        SOCK_TEST(a_path_of_107_bytes_fits_and_one_of_108_is_explained),
        SOCK_TEST(failures_name_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
