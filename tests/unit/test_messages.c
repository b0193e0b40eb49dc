#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "kubelet/messages.h"

#define BYTES(literal) SPAN(literal)
#define IDS(...)                                                                                   \
    {                                                                                              \
        sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *), (const char *[])                 \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static void assert_bytes(struct span got, struct span wanted)
{
    assert_int_equal(got.len, wanted.len);
    assert_memory_equal(got.ptr, wanted.ptr, wanted.len);
}

/* Recorded bytes from a Go peer: what we read from them, written again, is the same bytes. */
#define assert_round_trip(type, literal)                                                           \
    do {                                                                                           \
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));                                  \
        auto_(buf_done) struct buf out = BUF_MAX(MIB(1));                                          \
        struct type thing = {};                                                                    \
        struct err err = {};                                                                       \
        if (type##_decode(BYTES(literal), &arena, &thing, &err) < 0)                               \
            fail_msg("%s", err.text);                                                              \
        type##_encode(&thing, &out);                                                               \
        assert_false(out.failed);                                                                  \
        assert_bytes(buf_span(&out), BYTES(literal));                                              \
    } while (0)

static void recorded_messages_survive_reading_and_writing(void **state)
{
    assert_round_trip(plugin_options, "\020\001");
    assert_round_trip(register_request,
                      "\n\007v1beta1\022\017nvidia-gpu.sock\032\016nvidia.com/gpu\"\002\020\001");
    assert_round_trip(preferred_request, "\n\016\n\001c\n\001d\n\001a\n\001b\030\001");
    assert_round_trip(preferred_response, "\n\006\n\001a\n\001d");
    assert_round_trip(allocate_request, "\n\006\n\001a\n\001d");
    assert_round_trip(allocate_response, "\n5\n\035\n\026NVIDIA_VISIBLE_DEVICES\022\003a,d\"\024\n"
                                         "\017cdi.k8s.io/test\022\001x");
    assert_round_trip(device_list, "\n\n\n\001a\022\005Weird\n\014\n\001b\022\007Healthy");
    assert_round_trip(device_list, "");
}

static void a_recorded_register_request_reads_as_it_was_meant(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct register_request request;

    assert_int_equal(register_request_decode(
                         BYTES("\n\007v1beta1\022\006t.sock\032\017example.com/dev\"\002\020\001"),
                         &arena, &request, NULL),
                     0);
    assert_string_equal(request.version, PLUGIN_API_VERSION);
    assert_string_equal(request.endpoint, "t.sock");
    assert_string_equal(request.resource_name, "example.com/dev");
    assert_true(request.options.preferred_allocation_available);
    assert_false(request.options.pre_start_required);
}

static struct span golden(const char *name, struct arena *arena)
{
    const char *source = getenv("TRANCHE_SOURCE");
    struct span bytes = {};
    struct err err = {};
    char *path = arena_printf(arena, "%s/tests/data/kubelet/%s", source ? source : ".", name);

    assert_non_null(path);
    if (file_read(AT_FDCWD, path, MIB(1), arena, &bytes, &err) < 0)
        fail_msg("%s", err.text);
    return bytes;
}

static void the_list_of_another_plugin_reads_with_its_numa_nodes(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct device_list list;
    struct span bytes = golden("nvidia-list.bin", &arena);
    size_t on_node[2] = {}, nowhere = 0;

    assert_int_equal(device_list_decode(bytes, &arena, &list, NULL), 0);
    assert_int_equal(list.n, 32);
    for (size_t i = 0; i < list.n; i++) {
        assert_memory_equal(list.items[i].id, "GPU-a0b0c00", 11);
        assert_string_equal(list.items[i].health, PLUGIN_HEALTHY);
        if (!list.items[i].has_topology) {
            nowhere++;
            continue;
        }
        assert_int_equal(list.items[i].n_numa_nodes, 1);
        assert_in_range(list.items[i].numa_nodes[0], 0, 1);
        on_node[list.items[i].numa_nodes[0]]++;
    }
    assert_int_equal(on_node[0], 16);
    assert_int_equal(on_node[1], 8);
    assert_int_equal(nowhere, 8);
    device_list_encode(&list, &out);
    assert_bytes(buf_span(&out), bytes);
}

static void the_allocation_of_another_plugin_reads_with_its_device_nodes(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct allocate_response response;
    struct span bytes = golden("nvidia-allocate.bin", &arena);

    assert_int_equal(allocate_response_decode(bytes, &arena, &response, NULL), 0);
    assert_int_equal(response.n, 1);
    const struct allocation *one = response.items[0];
    assert_int_equal(one->n_envs, 1);
    assert_string_equal(one->envs[0].name, "NVIDIA_VISIBLE_DEVICES");
    assert_int_equal(one->n_devices, 2);
    assert_string_equal(one->devices[1].container_path, "/dev/nvidia5");
    assert_string_equal(one->devices[1].permissions, "rw");
    assert_int_equal(one->n_mounts + one->n_annotations + one->n_cdi_devices, 0);
    allocate_response_encode(&response, &out);
    assert_bytes(buf_span(&out), bytes);
}

/* spec/device-plugin §1.1: node 0 is the default of its field, and a node all the same. */
static void numa_node_zero_is_sent_as_a_node_of_its_own(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    auto_(buf_done) struct buf out = BUF_MAX(KIB(4));
    int64_t zero = 0;
    struct listed_device devices[] = {
        { .id = "a",
          .health = "Healthy",
          .has_topology = true,
          .n_numa_nodes = 1,
          .numa_nodes = &zero },
        { .id = "b", .health = "Healthy" },
    };
    struct device_list list = { 2, devices }, read;

    device_list_encode(&list, &out);
    assert_bytes(buf_span(&out), BYTES("\n\020\n\001a\022\007Healthy\032\002\n\000"
                                       "\n\014\n\001b\022\007Healthy"));
    assert_int_equal(device_list_decode(buf_span(&out), &arena, &read, NULL), 0);
    assert_true(read.items[0].has_topology);
    assert_int_equal(read.items[0].n_numa_nodes, 1);
    assert_int_equal(read.items[0].numa_nodes[0], 0);
    assert_false(read.items[1].has_topology);
}

static void an_allocation_keeps_everything_a_container_gets(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    auto_(buf_done) struct buf out = BUF_MAX(KIB(4));
    struct allocation given = {
        .n_envs = 2,
        .envs = (struct name_value[]){ { "A", "" }, { "B", "2" } },
        .n_mounts = 2,
        .mounts = (struct allocation_mount[]){ { "/c", "/h", true }, { "/d", "/i", false } },
        .n_devices = 1,
        .devices = (struct allocation_device[]){ { "/dev/a", "/host/dev/a", "rw" } },
        .n_annotations = 1,
        .annotations = (struct name_value[]){ { "cdi.k8s.io/x", "v/c=n" } },
        .n_cdi_devices = 1,
        .cdi_devices = (const char *[]){ "v/c=n" },
    };
    struct allocation *got;

    allocation_encode(&given, &out);
    assert_int_equal(allocation_decode(buf_span(&out), &arena, &got, NULL), 0);
    assert_int_equal(got->n_envs, 2);
    assert_string_equal(got->envs[0].name, "A");
    assert_string_equal(got->envs[0].value, "");
    assert_string_equal(got->mounts[0].container_path, "/c");
    assert_string_equal(got->mounts[0].host_path, "/h");
    assert_true(got->mounts[0].read_only);
    assert_false(got->mounts[1].read_only);
    assert_string_equal(got->devices[0].host_path, "/host/dev/a");
    assert_string_equal(got->annotations[0].name, "cdi.k8s.io/x");
    assert_string_equal(got->annotations[0].value, "v/c=n");
    assert_string_equal(got->cdi_devices[0], "v/c=n");
}

static void the_registry_messages_survive_both_ways(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    auto_(buf_done) struct buf out = BUF_MAX(KIB(4));
    struct plugin_info info = { "DRAPlugin", "gpu.nvidia.com", "/var/run/x.sock",
                                IDS("v1.DRAPlugin", "v1beta1.DRAPlugin") };
    struct registration_status status = { .error = "no" };

    plugin_info_encode(&info, &out);
    info = (struct plugin_info){};
    assert_int_equal(plugin_info_decode(buf_span(&out), &arena, &info, NULL), 0);
    assert_string_equal(info.endpoint, "/var/run/x.sock");
    assert_int_equal(info.versions.n, 2);
    assert_string_equal(info.versions.items[1], "v1beta1.DRAPlugin");

    buf_reset(&out);
    registration_status_encode(&status, &out);
    assert_int_equal(registration_status_decode(buf_span(&out), &arena, &status, NULL), 0);
    assert_false(status.registered);
    assert_string_equal(status.error, "no");
}

static void fields_of_the_future_are_skipped(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct id_list ids;

    /* 15: text, 16: varint, 17: eight bytes, 18: four bytes; around and between the known field */
    assert_int_equal(prestart_request_decode(BYTES("\172\003new\n\001a\200\001\177\n\001b\211\001"
                                                   "12345678\225\001"
                                                   "1234"),
                                             &arena, &ids, NULL),
                     0);
    assert_int_equal(ids.n, 2);
    assert_string_equal(ids.items[1], "b");
}

static void a_scalar_given_twice_is_the_last_one(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct register_request request;

    assert_int_equal(register_request_decode(BYTES("\n\001a\n\001b"), &arena, &request, NULL), 0);
    assert_string_equal(request.version, "b");
    assert_string_equal(request.resource_name, "");
}

static void broken_bytes_are_refused(void **state)
{
    static const struct {
        struct span bytes;
        const char *why;
    } cases[] = {
        { SPAN("\n"), "a tag without its length" },
        { SPAN("\n\005a"), "a length beyond the end" },
        { SPAN("\n\377\377\377\377\377\377\377\377\377\377\001"), "a length without end" },
        { SPAN("\n\377\377\377\377\017"), "a length of four gigabytes" },
        { SPAN("\010\001"), "a number where text belongs" },
        { SPAN("\000\000"), "field zero" },
        { SPAN("\177"), "a wire type that does not exist" },
    };
    struct id_list ids;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
        struct err err = {};
        int r = prestart_request_decode(cases[i].bytes, &arena, &ids, &err);

        /* A field of another wire type than declared may also count as unknown. */
        if (r == 0 && ids.n == 0)
            continue;
        if (r != -EBADMSG)
            fail_msg("%s: %d %s", cases[i].why, r, err.text);
    }
}

static void a_message_with_too_much_in_it_is_refused_before_memory_runs_out(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    auto_(buf_done) struct buf bytes = BUF_MAX(MESSAGE_MAX_BYTES);
    struct allocate_request request;
    struct err err = {};

    for (size_t i = 0; i <= MESSAGE_MAX_CONTAINERS; i++)
        buf_add(&bytes, "\n\000", 2);
    assert_int_equal(allocate_request_decode(buf_span(&bytes), &arena, &request, &err), -E2BIG);
    assert_string_equal(err.text, "1025 containers in one message; at most 1024 are taken");

    buf_reset(&bytes);
    while (buf_add(&bytes, "\n\000", 2) == 0) {
    }
    arena_done(&arena);
    assert_int_equal(allocate_request_decode(buf_span(&bytes), &arena, &request, &err), -E2BIG);
    assert_true(arena.used <= MESSAGE_ARENA_BYTES);
}

static void a_full_list_of_short_ids_fits_the_arena(void **state)
{
    auto_(arena_done) struct arena names = ARENA_MAX(MIB(16));
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    auto_(buf_done) struct buf bytes = BUF_MAX(MESSAGE_MAX_BYTES);
    size_t n = 70000; /* with ids of 40 bytes as many as 4 MiB hold */
    struct device_list list = { n, arena_new_array(&names, struct listed_device, n) }, read;
    int64_t node = 1;

    assert_non_null(list.items);
    for (size_t i = 0; i < n; i++)
        list.items[i] = (struct listed_device){ .id = arena_printf(&names, "GPU-%030zu", i),
                                                .health = PLUGIN_HEALTHY,
                                                .has_topology = true,
                                                .n_numa_nodes = 1,
                                                .numa_nodes = &node };
    device_list_encode(&list, &bytes);
    assert_false(bytes.failed);
    assert_int_equal(device_list_decode(buf_span(&bytes), &arena, &read, NULL), 0);
    assert_int_equal(read.n, n);
    assert_string_equal(read.items[n - 1].id, list.items[n - 1].id);
}

static int read_and_write(struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct device_list list;
    int r =
        device_list_decode(BYTES("\n\020\n\001a\022\007Healthy\032\002\n\000"), &arena, &list, err);

    if (r < 0)
        return r;
    device_list_encode(&list, &out);
    return out.failed ? -ENOMEM : 0;
}

static void no_lack_of_memory_goes_unnoticed(void **state)
{
    unsigned long n = 0;
    int r = -1;

    while (r < 0 && ++n < 100) {
        struct err err = {};

        mem_fail_from(n);
        r = read_and_write(&err);
        mem_fail_from(0);
        if (r < 0)
            assert_true(r == -ENOMEM || r == -E2BIG);
    }
    assert_int_equal(r, 0);
    assert_true(n > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_messages_survive_reading_and_writing),
        cmocka_unit_test(a_recorded_register_request_reads_as_it_was_meant),
        cmocka_unit_test(the_list_of_another_plugin_reads_with_its_numa_nodes),
        cmocka_unit_test(the_allocation_of_another_plugin_reads_with_its_device_nodes),
        cmocka_unit_test(numa_node_zero_is_sent_as_a_node_of_its_own),
        cmocka_unit_test(an_allocation_keeps_everything_a_container_gets),
        cmocka_unit_test(the_registry_messages_survive_both_ways),
        cmocka_unit_test(fields_of_the_future_are_skipped),
        cmocka_unit_test(a_scalar_given_twice_is_the_last_one),
        cmocka_unit_test(broken_bytes_are_refused),
        cmocka_unit_test(a_message_with_too_much_in_it_is_refused_before_memory_runs_out),
        cmocka_unit_test(a_full_list_of_short_ids_fits_the_arena),
        cmocka_unit_test(no_lack_of_memory_goes_unnoticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
