/*
 * protobuf-c on our memory: messages are unpacked into an arena, packed into a buf. Only the codecs
 * of this room include this.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"

/* The unpacked message, never freed on its own. -EBADMSG for bytes that are no such message,
 * -E2BIG when it needs more memory than the arena gives. */
[[nodiscard]] int pb_decode(const ProtobufCMessageDescriptor *type, struct span bytes,
                            struct arena *arena, void *ret_message, struct err *err);

/* Appends; sets out->failed when it does not fit. */
void pb_encode(const ProtobufCMessage *message, struct buf *out);

/* n initialised messages behind n pointers, as a repeated field wants them; NULL without memory. */
[[nodiscard]] void *pb_new_list(struct arena *arena, const ProtobufCMessageDescriptor *type,
                                size_t n);
