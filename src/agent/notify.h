/*
 * Tells a service manager that this process is ready (systemd's protocol: a datagram to the socket
 * in NOTIFY_SOCKET). Who does not listen is not told; nothing depends on it.
 */
#pragma once

/* `socket_path` may be NULL or empty; one that begins with @ is an abstract name. */
void notify_send(const char *socket_path, const char *text);
