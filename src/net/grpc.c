#include "net/grpc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[GRPC_N_CODES] = {
    [GRPC_OK] = "OK",
    [GRPC_CANCELLED] = "Canceled",
    [GRPC_UNKNOWN] = "Unknown",
    [GRPC_INVALID_ARGUMENT] = "InvalidArgument",
    [GRPC_DEADLINE_EXCEEDED] = "DeadlineExceeded",
    [GRPC_NOT_FOUND] = "NotFound",
    [GRPC_ALREADY_EXISTS] = "AlreadyExists",
    [GRPC_PERMISSION_DENIED] = "PermissionDenied",
    [GRPC_RESOURCE_EXHAUSTED] = "ResourceExhausted",
    [GRPC_FAILED_PRECONDITION] = "FailedPrecondition",
    [GRPC_ABORTED] = "Aborted",
    [GRPC_OUT_OF_RANGE] = "OutOfRange",
    [GRPC_UNIMPLEMENTED] = "Unimplemented",
    [GRPC_INTERNAL] = "Internal",
    [GRPC_UNAVAILABLE] = "Unavailable",
    [GRPC_DATA_LOSS] = "DataLoss",
    [GRPC_UNAUTHENTICATED] = "Unauthenticated",
};

/* The first row with a code is the way back from it. */
static const struct {
    int error;
    enum grpc_code code;
} errno_table[] = {
    { ECANCELED, GRPC_CANCELLED },
    { EINVAL, GRPC_INVALID_ARGUMENT },
    { ENAMETOOLONG, GRPC_INVALID_ARGUMENT },
    { ETIMEDOUT, GRPC_DEADLINE_EXCEEDED },
    { ETIME, GRPC_DEADLINE_EXCEEDED },
    { ENOENT, GRPC_NOT_FOUND },
    { ENODEV, GRPC_NOT_FOUND },
    { ENXIO, GRPC_NOT_FOUND },
    { ESRCH, GRPC_NOT_FOUND },
    { EEXIST, GRPC_ALREADY_EXISTS },
    { EACCES, GRPC_PERMISSION_DENIED },
    { EPERM, GRPC_PERMISSION_DENIED },
    { EMSGSIZE, GRPC_RESOURCE_EXHAUSTED },
    { ENOMEM, GRPC_RESOURCE_EXHAUSTED },
    { ENOSPC, GRPC_RESOURCE_EXHAUSTED },
    { EDQUOT, GRPC_RESOURCE_EXHAUSTED },
    { EMFILE, GRPC_RESOURCE_EXHAUSTED },
    { ENFILE, GRPC_RESOURCE_EXHAUSTED },
    { EFBIG, GRPC_RESOURCE_EXHAUSTED },
    { EBUSY, GRPC_FAILED_PRECONDITION },
    { ENOTEMPTY, GRPC_FAILED_PRECONDITION },
    { EROFS, GRPC_FAILED_PRECONDITION },
    { ESTALE, GRPC_ABORTED },
    { ERANGE, GRPC_OUT_OF_RANGE },
    { EOVERFLOW, GRPC_OUT_OF_RANGE },
    { ENOSYS, GRPC_UNIMPLEMENTED },
    { EOPNOTSUPP, GRPC_UNIMPLEMENTED },
    { EPROTO, GRPC_INTERNAL },
    { EAGAIN, GRPC_UNAVAILABLE },
    { ECONNREFUSED, GRPC_UNAVAILABLE },
    { ECONNRESET, GRPC_UNAVAILABLE },
    { EPIPE, GRPC_UNAVAILABLE },
    { ENOTCONN, GRPC_UNAVAILABLE },
    { EBADMSG, GRPC_DATA_LOSS },
    { EKEYREJECTED, GRPC_UNAUTHENTICATED },
    { EIO, GRPC_UNKNOWN },
};

const char *grpc_code_name(enum grpc_code code)
{
    return (unsigned)code < GRPC_N_CODES ? code_names[code] : "Unknown";
}

enum grpc_code grpc_code_from_errno(int code)
{
    if (code == 0)
        return GRPC_OK;
    for (size_t i = 0; i < ARRAY_LEN(errno_table); i++)
        if (errno_table[i].error == code)
            return errno_table[i].code;
    return GRPC_UNKNOWN;
}

int grpc_code_to_errno(enum grpc_code code)
{
    if (code == GRPC_OK)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(errno_table); i++)
        if (errno_table[i].code == code)
            return errno_table[i].error;
    return EIO;
}

enum grpc_code grpc_code_from_http(unsigned status)
{
    switch (status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

enum grpc_code grpc_code_from_h2(uint32_t error)
{
    switch (error) {
    case 7: /* REFUSED_STREAM: the call was not looked at */
        return GRPC_UNAVAILABLE;
    case 8: /* CANCEL */
        return GRPC_CANCELLED;
    case 11: /* ENHANCE_YOUR_CALM */
        return GRPC_RESOURCE_EXHAUSTED;
    case 12: /* INADEQUATE_SECURITY */
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

bool grpc_code_parse(struct span text, enum grpc_code *ret)
{
    uint64_t number;

    *ret = GRPC_UNKNOWN;
    if (text.len > 2 || text_to_u64(text, &number) < 0 || number >= GRPC_N_CODES)
        return false;
    *ret = (enum grpc_code)number;
    return true;
}

/* ---- status messages ---- */

static bool stays(unsigned char c)
{
    return c >= 0x20 && c <= 0x7e && c != '%';
}

static void escape_bytes(struct span bytes, struct buf *out)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];
        if (stays(c)) {
            buf_add_char(out, (char)c);
        } else {
            const char coded[3] = { '%', hex[c >> 4], hex[c & 15] };
            buf_add(out, coded, sizeof(coded));
        }
    }
}

/* The first max bytes, but never half a character. */
static struct span cut(struct span text, size_t max)
{
    if (text.len <= max)
        return text;
    text.len = max;
    while (text.len > 0 && ((unsigned char)text.ptr[text.len] & 0xC0) == 0x80)
        text.len--;
    return text;
}

int grpc_message_escape(struct span text, struct buf *out)
{
    struct span rest = cut(text, GRPC_MAX_STATUS);

    while (rest.len > 0) {
        size_t valid = text_utf8_prefix(rest);
        escape_bytes((struct span){ rest.ptr, valid }, out);
        rest = (struct span){ rest.ptr + valid, rest.len - valid };
        if (rest.len > 0) {
            buf_add_text(out, "%EF%BF%BD");
            rest = (struct span){ rest.ptr + 1, rest.len - 1 };
        }
    }
    return out->failed ? -ENOMEM : 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int grpc_message_unescape(struct span text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        int high = -1, low = -1;
        if (c == '%' && i + 2 < text.len) {
            high = hex_digit(text.ptr[i + 1]);
            low = hex_digit(text.ptr[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            c = (char)(high << 4 | low);
            i += 2;
        }
        buf_add_char(out, c);
    }
    return out->failed ? -ENOMEM : 0;
}

/* ---- time-outs ---- */

static const struct {
    char letter;
    int64_t ns;
} units[] = {
    { 'n', 1 },          { 'u', 1000 },        { 'm', 1000000 },
    { 'S', 1000000000 }, { 'M', 60000000000 }, { 'H', 3600000000000 },
};

enum { TIMEOUT_MAX_DIGITS = 8, TIMEOUT_MAX_NUMBER = 99999999 };

int grpc_timeout_parse(struct span text, int64_t *ret_ns)
{
    uint64_t number;

    if (text.len < 2 || text.len > TIMEOUT_MAX_DIGITS + 1)
        return -EINVAL;
    if (text_to_u64((struct span){ text.ptr, text.len - 1 }, &number) < 0)
        return -EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (units[i].letter != text.ptr[text.len - 1])
            continue;
        if (__builtin_mul_overflow((int64_t)number, units[i].ns, ret_ns))
            *ret_ns = INT64_MAX;
        return 0;
    }
    return -EINVAL;
}

void grpc_timeout_print(int64_t ns, char out[static 12])
{
    size_t i = 0;

    ns = MAX(ns, 0);
    while (i + 1 < ARRAY_LEN(units) && (ns - 1) / units[i].ns + 1 > TIMEOUT_MAX_NUMBER)
        i++;
    int64_t number = ns == 0 ? 0 : (ns - 1) / units[i].ns + 1;
    snprintf(out, 12, "%d%c", (int)MIN(number, (int64_t)TIMEOUT_MAX_NUMBER), units[i].letter);
}

bool grpc_path_split(struct span path, struct span *ret_service, struct span *ret_method)
{
    const char *slash = path.len > 0 ? memrchr(path.ptr, '/', path.len) : NULL;

    if (!slash || path.ptr[0] != '/' || slash == path.ptr)
        return false;
    *ret_service = (struct span){ path.ptr + 1, (size_t)(slash - path.ptr) - 1 };
    *ret_method = (struct span){ slash + 1, path.len - (size_t)(slash - path.ptr) - 1 };
    return true;
}

bool grpc_is_content_type(struct span value)
{
    struct span prefix = SPAN("application/grpc");

    if (value.len < prefix.len || memcmp(value.ptr, prefix.ptr, prefix.len) != 0)
        return false;
    return value.len == prefix.len || value.ptr[prefix.len] == '+' || value.ptr[prefix.len] == ';';
}
