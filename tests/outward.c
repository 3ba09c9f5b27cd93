/* Preloaded into a process: writes down every look-up and connection that leaves the machine, and lets none through.
   NOTED_OUTWARD names the file. Sockets within the machine (AF_UNIX), which worker processes talk by, are left alone. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *what, const char *whom) {
    const char *path = getenv("NOTED_OUTWARD");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (file < 0)
        return;

    char line[512];
    int length = snprintf(line, sizeof line, "%s %s\n", what, whom ? whom : "this machine");
    if (length >= (int)sizeof line)
        length = sizeof line - 1;
    if (write(file, line, (size_t)length) < 0)
        abort();
    close(file);
}

static int leaves(const char *what, const struct sockaddr *to) {
    char address[INET6_ADDRSTRLEN] = "?";
    if (to == NULL)
        return 0;
    if (to->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)to)->sin_addr, address, sizeof address);
    else if (to->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)to)->sin6_addr, address, sizeof address);
    else
        return 0;

    note(what, address);
    errno = ENETUNREACH;
    return 1;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    (void)service, (void)hints, (void)found;
    note("getaddrinfo", name);
    return EAI_FAIL;
}

struct hostent *gethostbyname(const char *name) {
    note("gethostbyname", name);
    h_errno = NO_RECOVERY;
    return NULL;
}

int connect(int socket, const struct sockaddr *to, socklen_t length) {
    if (leaves("connect", to))
        return -1;
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return next(socket, to, length);
}

ssize_t sendto(int socket, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    if (leaves("sendto", to))
        return -1;
    ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    return next(socket, data, size, flags, to, length);
}
