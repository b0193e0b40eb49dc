/*
 * The words of gRPC: status codes, message escaping, time-outs, and messages in a byte stream.
 * Nothing here knows about HTTP/2. Facts: spec/kubelet-wire.
 */
#pragma once

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"

enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
    GRPC_N_CODES,
};

/* How a call ended. The message is the sentence, unescaped; borrowed for the callback. */
struct grpc_status {
    enum grpc_code code;
    const char *message; /* never NULL */
};

#define GRPC_MAX_MESSAGE  MIB(4) /* what a Go peer takes, and our default too */
#define GRPC_PREFIX_BYTES 5      /* compressed flag, length in four bytes, big end first */
#define GRPC_MAX_STATUS   KIB(4) /* bytes of a status message that are sent or kept */

const char *grpc_code_name(enum grpc_code code); /* "Unavailable", as Go prints it */
/* For an err that became an answer: EINVAL -> INVALID_ARGUMENT, ENOENT -> NOT_FOUND, … and back. */
enum grpc_code grpc_code_from_errno(int code);
int grpc_code_to_errno(enum grpc_code code);         /* positive; 0 for GRPC_OK */
enum grpc_code grpc_code_from_http(unsigned status); /* of a peer that is no gRPC server */
enum grpc_code grpc_code_from_h2(uint32_t error);    /* of a stream that was reset */
/* "0" to "16"; any other number, or no number, is GRPC_UNKNOWN (and false). */
bool grpc_code_parse(struct span text, enum grpc_code *ret);

/* grpc-message: bytes outside 0x20..0x7e and '%' become %XX, everything else stays. Invalid
 * UTF-8 becomes U+FFFD, as Go does it; the text is cut at GRPC_MAX_STATUS. 0, or -ENOMEM. */
[[nodiscard]] int grpc_message_escape(struct span text, struct buf *out);
/* The reverse; a '%' that is not followed by two hex digits stands for itself. */
[[nodiscard]] int grpc_message_unescape(struct span text, struct buf *out);

/* grpc-timeout: one to eight digits and one of H M S m u n. -EINVAL. Caps at INT64_MAX. */
[[nodiscard]] int grpc_timeout_parse(struct span text, int64_t *ret_ns);
/* The finest unit in which the time fits eight digits, rounded up; 12 bytes are enough. */
void grpc_timeout_print(int64_t ns, char out[static 12]);

/*
 * Splits "/package.Service/Method" at its last slash. False when it has no leading slash or no
 * second one.
 */
bool grpc_path_split(struct span path, struct span *ret_service, struct span *ret_method);

/* application/grpc, with anything after a + or ; behind it. */
bool grpc_is_content_type(struct span value);

/*
 * Messages coming in: prefix and payload arrive in any pieces; the collected message is in
 * `payload` when grpc_reader_feed returns 1.
 */
struct grpc_reader {
    struct buf payload; /* its max is the ceiling for one message */
    uint8_t prefix[GRPC_PREFIX_BYTES];
    uint8_t n_prefix;
    bool complete;
    uint32_t wanted; /* bytes of payload, once the prefix is complete */
};

void grpc_reader_init(struct grpc_reader *reader, size_t max_message);
void grpc_reader_done(struct grpc_reader *reader);

/*
 * Takes bytes off the front of `bytes`. 1: a message is complete (the next call starts the next
 * one, so use the payload or steal its buf first); 0: all bytes taken, more needed. Failures: a
 * status in *ret_code with the sentence in err: RESOURCE_EXHAUSTED (-EMSGSIZE) for a message above
 * the ceiling, UNIMPLEMENTED or INTERNAL (-EPROTO) for a compressed one, depending on whether the
 * peer named an encoding other than identity.
 */
[[nodiscard]] int grpc_reader_feed(struct grpc_reader *reader, struct span *bytes,
                                   struct span encoding, enum grpc_code *ret_code, struct err *err);
/* True when the stream may end here: not inside a message. */
bool grpc_reader_between(const struct grpc_reader *reader);

/*
 * Messages going out: a queue with a ceiling in number and bytes, from which the transport takes
 * pieces as windows allow.
 */
struct grpc_out_message;

struct grpc_writer {
    struct grpc_out_message *first, *last; /* owned */
    size_t n_messages, n_bytes;            /* waiting, the one that is being sent included */
    size_t sent;                           /* bytes of `first` that were taken */
};

#define GRPC_MAX_QUEUE       16
#define GRPC_MAX_QUEUE_BYTES MIB(32)

void grpc_writer_done(struct grpc_writer *writer);
/* Copies the payload. -EAGAIN when the queue is full, -EMSGSIZE above 4 GiB or the queue's
 * ceiling, -ENOMEM. With `replace`, the newest waiting message that was also added with `replace`
 * is dropped first, unless a byte of it was taken already. */
[[nodiscard]] int grpc_writer_add(struct grpc_writer *writer, struct span payload, bool replace,
                                  struct err *err);
/* Copies the next bytes to `to`, at most max, from as many messages as it takes: how many. */
size_t grpc_writer_take(struct grpc_writer *writer, char *to, size_t max);
static inline bool grpc_writer_empty(const struct grpc_writer *writer)
{
    return writer->first == NULL;
}
