/*
 * Walks over the frames that a client sends, to set one number right before the library sees it.
 *
 * A Go client leaves with a GOAWAY that names stream 2^31 - 1 as the last one it has heard of,
 * though only we could have opened streams on our side (recorded: spec/kubelet-wire). nghttp2 takes
 * that for a breach of the protocol and breaks off, answers included. A server that opens no
 * streams loses nothing by reading 0 there.
 */
#pragma once

#include "base/base.h"
#include "base/text.h"

struct h2_walk {
    unsigned n_preface, n_head; /* bytes of the preface, and of the frame's head, so far */
    uint8_t head[9];
    uint32_t payload_at, payload_len;
};

/* Takes the next piece for the library off the front of `bytes`; false when there is none. */
bool h2_walk_next(struct h2_walk *walk, struct span *bytes, struct span *ret_piece);
