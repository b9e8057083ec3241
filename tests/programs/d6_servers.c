/* Harmless patches of servers: each new function counts its calls and calls the old one. */
#ifdef PATCH
#include "livepatch.h"

volatile unsigned long calls = 1;

#ifdef REDIS
typedef struct client client;
void getCommand(client *c);
void setCommand(client *c);

LP_REPLACE(getCommand) void new_get(client *c)
{
    calls++;
    LP_ORIGINAL(getCommand)(c);
}

LP_REPLACE(setCommand) void new_set(client *c)
{
    calls++;
    LP_ORIGINAL(setCommand)(c);
}
#endif

#ifdef NGINX
typedef struct request request;
typedef struct handler handler;
long ngx_http_core_content_phase(request *r, handler *h);
long ngx_http_send_header(request *r);

LP_REPLACE(ngx_http_core_content_phase) long new_content_phase(request *r, handler *h)
{
    calls++;
    return LP_ORIGINAL(ngx_http_core_content_phase)(r, h);
}

LP_REPLACE(ngx_http_send_header) long new_send_header(request *r)
{
    calls++;
    return LP_ORIGINAL(ngx_http_send_header)(r);
}
#endif

#ifdef MEMCACHED
#include <sys/socket.h>

/* Its own functions have no names in Debian's file; this one of libc answers every request. */
ssize_t new_sendmsg(int fd, const struct msghdr *message, int flags)
{
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    return LP_ORIGINAL(sendmsg)(fd, message, flags);
}
#endif
#endif
