#include "agent/notify.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/base.h"

void notify_send(const char *socket_path, const char *text)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t len = socket_path ? strlen(socket_path) : 0;

    if (len == 0 || len >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, socket_path, len);
    if (address.sun_path[0] == '@')
        address.sun_path[0] = '\0';
    auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    (void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, size);
}
