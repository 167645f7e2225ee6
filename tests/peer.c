/* The other end of the socket in test_transfer.py: takes an object of Python's
   and writes to it, then makes an object of its own and sends that. */
#include <ctype.h>
#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

typedef union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
} control;

static int
receive_object(int sock)
{
    char byte = 'x';
    control rights;
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof rights};
    if (recvmsg(sock, &message, 0) != 1) {
        err(1, "recvmsg");
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (byte != '\0' || message.msg_flags & MSG_CTRUNC || header == NULL ||
        header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) {
        errx(1, "not one zero byte with one descriptor");
    }
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static void
send_object(int sock, int fd)
{
    char byte = '\0';
    control rights = {.header = {.cmsg_level = SOL_SOCKET,
                                 .cmsg_type = SCM_RIGHTS,
                                 .cmsg_len = CMSG_LEN(sizeof fd)}};
    memcpy(CMSG_DATA(&rights.header), &fd, sizeof fd);
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof rights};
    if (sendmsg(sock, &message, 0) != 1) {
        err(1, "sendmsg");
    }
}

static char *
map(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        err(1, "fstat");
    }
    void *pages =
        mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (pages == MAP_FAILED) {
        err(1, "mmap");
    }
    return pages;
}

int
main(int argc, char **argv)
{
    if (argc != 3) {
        errx(2, "usage: peer SOCKET NAME");
    }
    int sock = atoi(argv[1]);
    for (char *text = map(receive_object(sock)); *text; text++) {
        *text = (char)toupper(*text);
    }
    int fd = shm_open(argv[2], O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || shm_unlink(argv[2]) < 0 || ftruncate(fd, 10) < 0) {
        err(1, "making an object");
    }
    strcpy(map(fd), "made in C");
    send_object(sock, fd);
    return 0;
}
