#include "kubelet/pb.h"

#include <errno.h>

struct pb_memory {
    struct arena *arena;
    bool refused;
};

static void *memory_alloc(void *data, size_t size)
{
    struct pb_memory *memory = data;
    void *bytes = arena_alloc(memory->arena, size);

    if (!bytes)
        memory->refused = true;
    return bytes;
}

/* An arena is freed all at once, also what a failed unpack leaves behind. */
static void memory_free(void *data, void *bytes)
{
}

int pb_decode(const ProtobufCMessageDescriptor *type, struct span bytes, struct arena *arena,
              void *ret_message, struct err *err)
{
    struct pb_memory memory = { .arena = arena };
    ProtobufCAllocator allocator = { .alloc = memory_alloc,
                                     .free = memory_free,
                                     .allocator_data = &memory };
    ProtobufCMessage *message =
        protobuf_c_message_unpack(type, &allocator, bytes.len, (const uint8_t *)bytes.ptr);

    if (!message && memory.refused)
        return err_set(err, E2BIG, "%s of %zu bytes needs more than the %zu bytes it may have",
                       type->short_name, bytes.len, arena->max);
    if (!message)
        return err_set(err, EBADMSG, "%zu bytes that are no %s", bytes.len, type->short_name);
    *(ProtobufCMessage **)ret_message = message;
    return 0;
}

struct pb_out {
    ProtobufCBuffer base;
    struct buf *out;
};

static void out_append(ProtobufCBuffer *buffer, size_t len, const uint8_t *bytes)
{
    struct pb_out *pb = container_of(buffer, struct pb_out, base);

    buf_add(pb->out, bytes, len); /* a failure stays in the buf */
}

void pb_encode(const ProtobufCMessage *message, struct buf *out)
{
    struct pb_out pb = { .base = { .append = out_append }, .out = out };

    protobuf_c_message_pack_to_buffer(message, &pb.base);
}

void *pb_new_list(struct arena *arena, const ProtobufCMessageDescriptor *type, size_t n)
{
    void **list = arena_new_array(arena, void *, n);
    char *items = arena_array(arena, n, type->sizeof_message);

    if (!list || !items)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        list[i] = items + i * type->sizeof_message;
        protobuf_c_message_init(type, list[i]);
    }
    return list;
}
