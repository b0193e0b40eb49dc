/*
 * Strange bytes where a kubelet message belongs. The first byte chooses the message, the rest is
 * read as one. What can be read is written again, and must then read and write as the same bytes:
 * nothing that was understood is lost on the way.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "kubelet/messages.h"
#include "kubelet/pod_messages.h"

/* One function for each message: reads and writes; a negative errno when it could not be read. */
#define MESSAGE(type)                                                                              \
    static int type##_again(struct span bytes, struct arena *arena, struct buf *out)               \
    {                                                                                              \
        struct type thing;                                                                         \
        struct err err = {};                                                                       \
        int r = type##_decode(bytes, arena, &thing, &err);                                         \
                                                                                                   \
        assert((r < 0) == (err.text[0] != '\0'));                                                  \
        if (r == 0)                                                                                \
            type##_encode(&thing, out);                                                            \
        return r;                                                                                  \
    }

MESSAGE(plugin_options)
MESSAGE(register_request)
MESSAGE(device_list)
MESSAGE(preferred_request)
MESSAGE(preferred_response)
MESSAGE(allocate_request)
MESSAGE(allocate_response)
MESSAGE(plugin_info)
MESSAGE(registration_status)
MESSAGE(pod_list)

static int allocation_again(struct span bytes, struct arena *arena, struct buf *out)
{
    struct allocation *allocation;
    int r = allocation_decode(bytes, arena, &allocation, NULL);

    if (r == 0)
        allocation_encode(allocation, out);
    return r;
}

static int prestart_again(struct span bytes, struct arena *arena, struct buf *out)
{
    struct id_list ids;
    int r = prestart_request_decode(bytes, arena, &ids, NULL);

    if (r == 0)
        prestart_request_encode(&ids, out);
    return r;
}

static int pod_get_request_again(struct span bytes, struct arena *arena, struct buf *out)
{
    struct pod pod;
    int r = pod_get_request_decode(bytes, arena, &pod, NULL);

    if (r == 0)
        pod_get_request_encode(pod.namespace, pod.name, out);
    return r;
}

static int pod_get_response_again(struct span bytes, struct arena *arena, struct buf *out)
{
    struct pod pod;
    int r = pod_get_response_decode(bytes, arena, &pod, NULL);

    if (r == 0)
        pod_get_response_encode(&pod, out);
    return r;
}

static int (*const messages[])(struct span bytes, struct arena *arena, struct buf *out) = {
    plugin_options_again,    register_request_again,   device_list_again,
    preferred_request_again, preferred_response_again, allocate_request_again,
    allocate_response_again, plugin_info_again,        registration_status_again,
    pod_list_again,          allocation_again,         prestart_again,
    pod_get_request_again,   pod_get_response_again,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(POD_ARENA_BYTES);
    auto_(arena_done) struct arena second = ARENA_MAX(POD_ARENA_BYTES);
    auto_(buf_done) struct buf once = BUF_MAX(POD_MESSAGE_MAX_BYTES);
    auto_(buf_done) struct buf twice = BUF_MAX(POD_MESSAGE_MAX_BYTES);

    if (size < 1)
        return 0;
    struct span bytes = { (const char *)data + 1, size - 1 };
    size_t which = data[0] % ARRAY_LEN(messages);

    if (messages[which](bytes, &arena, &once) < 0)
        return 0;
    assert(!once.failed);
    int r = messages[which](buf_span(&once), &second, &twice);
    assert(r == 0 && !twice.failed);
    assert(span_equal(buf_span(&once), buf_span(&twice)));
    return 0;
}
