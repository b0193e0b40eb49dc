/*
 * Carries the bytes of one HTTP/2 session over one socket: what is ready to be sent leaves in one
 * write per turn, what arrives is fed to the session. Between net/ and itself.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "net/h2.h"
#include "net/loop.h"

struct pump;

/* The connection is over: `why` is "" when it ended as agreed (or the peer just left), else the
 * sentence. Called once, from the loop; free the pump (here or later), then the session. */
typedef void pump_closed_fn(void *user, const char *why);

/* Owns fd from here on, also when this fails. The session stays the caller's and must outlive the
 * pump. The greeting is written on the next turn. */
[[nodiscard]] int pump_new(struct loop *loop, int fd, struct h2 *h2, pump_closed_fn *closed,
                           void *user, struct pump **ret, struct err *err);
/* Closes the socket. With `flush`, tries once to write what the session has to say. */
void pump_free(struct pump *pump, bool flush);
int pump_fd(const struct pump *pump);
