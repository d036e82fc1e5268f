/* Sends requests when they are due and says when each was answered; compare/load.py describes the arrays.
 *
 * One thread, epoll, connections that are kept. Open loop: a request is sent at its time whether or not others were
 * answered, and its latency counts from that time, so a server that stalls is seen to stall. Closed loop: each
 * connection asks again once it is answered. No numpy here: arrays come as buffers, and the GIL is let go.
 */

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#ifndef __linux__
#error "the load generator needs epoll and timerfd"
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "_reply.h"

enum { UNANSWERED = 0, LATE = -1, UNCONNECTED = -2, CUT = -3, GARBLED = -4 };
enum { EVENTS = 64, BURST = 64, PIECE = 1 << 16, LOST_CAUSE = 100 };
#define SECOND 1000000000LL
#define MILLISECOND (SECOND / 1000)
#define SPIN 20000            /* ns before a request is due in which it is awaited awake: a timer may come that late */
#define SIGNALS (SECOND / 10) /* how often Python is asked for signals */

typedef struct Line {
    int fd, connected, busy;
    Py_ssize_t at; /* of the request that is under way */
    int64_t began;
    size_t written;
    struct Line *before, *after; /* of those that are busy, from the longest on; of those that are idle */
    Reply reply;
} Line;

enum { REQUESTS, ENDS, WHICH, DUE, LATENCY, SERVICE, LAG, STATUS, BUFFERS };

typedef struct {
    Py_buffer buffers[BUFFERS];
    int filled;
    struct sockaddr_storage to;
    socklen_t to_size;
    const char *bytes;
    const int64_t *ends;
    const int32_t *which;
    int64_t *due, *latency, *service, *lag;
    int32_t *status;
    Py_ssize_t count, order; /* requests at most; length of which, gone through again and again */
    int open, most;          /* open loop; connections at most */
    int64_t settle, sending, patience, end, bound, allowed; /* ns; how many may be beyond bound before it gives up */
    Py_ssize_t first;                                       /* requests from here on count for that */
    int poll, timer;
    int64_t start, woke, armed;
    Line *lines, *idle, *oldest, *newest;
    int used, lost;
    Py_ssize_t arrived, begun, answered, opened, waited, beyond;
    char *piece;
} Load;

static int64_t clock_now(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static int64_t elapsed(const Load *load) { return clock_now(CLOCK_MONOTONIC) - load->start; }

static void push_idle(Load *load, Line *line)
{
    line->after = load->idle;
    load->idle = line;
}

static void set_busy(Load *load, Line *line)
{
    line->busy = 1;
    line->after = NULL;
    line->before = load->newest;
    if (load->newest)
        load->newest->after = line;
    else
        load->oldest = line;
    load->newest = line;
}

static void unset_busy(Load *load, Line *line)
{
    line->busy = 0;
    if (line->before)
        line->before->after = line->after;
    else
        load->oldest = line->after;
    if (line->after)
        line->after->before = line->before;
    else
        load->newest = line->before;
}

static void hang_up(Line *line)
{
    if (line->fd >= 0)
        close(line->fd);
    line->fd = -1;
    line->connected = 0;
}

/* Notes how a request ended. */
static void settle(Load *load, Py_ssize_t at, int64_t began, int status)
{
    const int64_t now = elapsed(load);
    load->latency[at] = now - load->due[at];
    load->service[at] = now - began;
    load->status[at] = status;
    load->answered++;
    if (at >= load->first && (status != 200 || load->latency[at] - load->lag[at] > load->bound))
        load->beyond++;
    if (status == UNCONNECTED)
        load->lost++;
    else if (status > 0)
        load->lost = 0;
}

/* The line's request ended. keeps: whether another may go that way. */
static void finish(Load *load, Line *line, int status, int keeps)
{
    settle(load, line->at, line->began, status);
    unset_busy(load, line);
    if (!keeps)
        hang_up(line);
    push_idle(load, line);
}

static void write_on(Load *load, Line *line)
{
    const int64_t kind = load->which[line->at % load->order];
    const int64_t from = kind ? load->ends[kind - 1] : 0, size = load->ends[kind] - from;
    while ((int64_t)line->written < size) {
        const ssize_t sent = send(line->fd, load->bytes + from + line->written, size - line->written, MSG_NOSIGNAL);
        if (sent >= 0) {
            line->written += sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            finish(load, line, CUT, 0);
            return;
        }
    }
}

static int dial(Load *load, Line *line)
{
    const int yes = 1;
    const struct linger at_once = {1, 0}; /* so that closed connections hold no ports */
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.ptr = line}};
    line->fd = socket(load->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (line->fd < 0)
        return 0;
    setsockopt(line->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(line->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if ((connect(line->fd, (struct sockaddr *)&load->to, load->to_size) && errno != EINPROGRESS) ||
        epoll_ctl(load->poll, EPOLL_CTL_ADD, line->fd, &event)) {
        hang_up(line);
        return 0;
    }
    load->opened++;
    return 1;
}

/* A line that is idle, or one more; NULL where every one is busy. */
static Line *available(Load *load)
{
    Line *line = load->idle;
    if (line) {
        load->idle = line->after;
        return line;
    }
    if (load->used == load->most)
        return NULL;
    line = &load->lines[load->used++];
    line->fd = -1;
    return line;
}

/* Puts requests on their way, in the order in which they came, as far as there are lines for them. */
static void pump(Load *load)
{
    while (load->begun < load->arrived) {
        Line *line = available(load);
        if (!line)
            return;
        const Py_ssize_t at = load->begun++;
        line->began = elapsed(load);
        line->at = at;
        line->written = 0;
        expect(&line->reply);
        if (line->fd < 0 && !dial(load, line)) {
            push_idle(load, line);
            settle(load, at, line->began, UNCONNECTED);
            continue;
        }
        set_busy(load, line);
        if (line->connected)
            write_on(load, line);
    }
}

/* What is due has arrived; some at a time, so that answers are read in between. */
static void admit_due(Load *load)
{
    for (int k = 0; k < BURST && load->arrived < load->count && load->due[load->arrived] < load->sending; k++) {
        const int64_t now = elapsed(load);
        if (load->due[load->arrived] > now)
            return;
        load->lag[load->arrived] = now - load->due[load->arrived];
        load->arrived++;
        pump(load);
        if (load->begun < load->arrived)
            load->waited++;
    }
}

static void admit_idle(Load *load)
{
    while (load->arrived < load->count && load->lost < LOST_CAUSE && load->arrived - load->answered < load->most) {
        const int64_t now = elapsed(load);
        if (now >= load->sending)
            return;
        load->due[load->arrived] = now;
        load->lag[load->arrived] = now - load->woke;
        load->arrived++;
        pump(load);
    }
}

static void read_on(Load *load, Line *line, int hung_up)
{
    for (;;) {
        const ssize_t size = recv(line->fd, load->piece, PIECE, 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (!line->busy) { /* it was idle: nothing should come, but its end */
            hang_up(line);
            return;
        }
        if (size < 0) {
            finish(load, line, CUT, 0);
            return;
        }
        if (!size) {
            finish(load, line, line->reply.stage == UNTIL_CLOSED ? line->reply.status : CUT, 0);
            return;
        }
        size_t used = 0;
        const Outcome outcome = feed(&line->reply, load->piece, size, &used);
        if (outcome == BROKEN) {
            finish(load, line, GARBLED, 0);
            return;
        }
        if (outcome == COMPLETE) {
            /* What follows an answer was not asked for; before the whole request is sent, none should come. */
            const int64_t kind = load->which[line->at % load->order];
            const int64_t from = kind ? load->ends[kind - 1] : 0;
            const int whole = (int64_t)line->written == load->ends[kind] - from;
            const int clean = (size_t)size == used && whole && !hung_up;
            finish(load, line, line->reply.status, line->reply.keeps && clean);
            return;
        }
        if (size < PIECE && !hung_up)
            return;
    }
}

static void attend(Load *load, Line *line, uint32_t events)
{
    if (line->fd < 0)
        return;
    if (!line->connected && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(line->fd, SOL_SOCKET, SO_ERROR, &error, &size) || error) {
            if (line->busy)
                finish(load, line, UNCONNECTED, 0);
            else
                hang_up(line);
            return;
        }
        line->connected = 1;
    }
    if (line->busy && events & EPOLLOUT)
        write_on(load, line);
    if (line->fd >= 0 && events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        read_on(load, line, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
}

static void time_out(Load *load, int64_t now)
{
    while (load->oldest && load->due[load->oldest->at] + load->patience <= now)
        finish(load, load->oldest, LATE, 0);
    while (load->begun < load->arrived && load->due[load->begun] + load->patience <= now) {
        const Py_ssize_t at = load->begun++;
        settle(load, at, now, LATE);
    }
}

/* When there is something to do without being told. */
static int64_t next_time(const Load *load, int64_t signals)
{
    int64_t next = load->end < signals ? load->end : signals;
    if (load->open && load->arrived < load->count && load->due[load->arrived] < next)
        next = load->due[load->arrived];
    if (load->oldest && load->due[load->oldest->at] + load->patience < next)
        next = load->due[load->oldest->at] + load->patience;
    return next;
}

/* Opens every connection and lets the server take them up, which it does slowly once its model runs. One that does not
 * come in time is opened when it is needed. */
static void connect_all(Load *load)
{
    struct epoll_event events[EVENTS];
    int64_t left;
    for (; load->used < load->most; load->used++) {
        load->lines[load->used].fd = -1;
        dial(load, &load->lines[load->used]);
    }
    while ((left = load->settle - elapsed(load)) > 0) {
        const int count = epoll_wait(load->poll, events, EVENTS, (int)(left / MILLISECOND) + 1);
        for (int k = 0; k < count; k++)
            attend(load, events[k].data.ptr, events[k].events);
    }
    for (int connected = 0; connected < 2; connected++) /* those that are come to lie on top */
        for (int k = 0; k < load->used; k++)
            if (load->lines[k].connected == connected) {
                if (!connected)
                    hang_up(&load->lines[k]);
                push_idle(load, &load->lines[k]);
            }
}

static void wait_for_events(Load *load, int64_t next)
{
    struct epoll_event events[EVENTS];
    const int64_t left = next - elapsed(load);
    if (left > SPIN && (!load->armed || next < load->armed)) { /* one that rings too early does no harm */
        const int64_t at = load->start + next - SPIN;
        const struct itimerspec when = {{0, 0}, {at / SECOND, at % SECOND}};
        timerfd_settime(load->timer, TFD_TIMER_ABSTIME, &when, NULL);
        load->armed = next;
    }
    const int count = epoll_wait(load->poll, events, EVENTS, left > SPIN ? -1 : 0);
    load->woke = elapsed(load);
    for (int k = 0; k < count; k++) {
        if (events[k].data.ptr) {
            attend(load, events[k].data.ptr, events[k].events);
        } else {
            uint64_t rang;
            load->armed = 0;
            if (read(load->timer, &rang, sizeof rang) < 0)
                continue;
        }
    }
}

static int over(const Load *load, int64_t now)
{
    if (now >= load->end || load->beyond > load->allowed)
        return 1;
    if (load->answered < load->arrived)
        return 0;
    if (load->arrived == load->count || now >= load->sending)
        return 1;
    return load->open ? load->due[load->arrived] >= load->sending : load->lost >= LOST_CAUSE;
}

/* Runs until it is over, or until signals are to be looked at. Whether it is over. */
static int run_on(Load *load)
{
    const int64_t signals = elapsed(load) + SIGNALS;
    for (;;) {
        if (load->open)
            admit_due(load);
        else
            admit_idle(load);
        pump(load);
        const int64_t now = elapsed(load);
        time_out(load, now);
        if (over(load, now))
            return 1;
        if (now >= signals)
            return 0;
        wait_for_events(load, next_time(load, signals));
    }
}

static void let_go(Load *load)
{
    for (int k = 0; load->lines && k < load->used; k++)
        hang_up(&load->lines[k]);
    if (load->poll >= 0)
        close(load->poll);
    if (load->timer >= 0)
        close(load->timer);
    free(load->lines);
    free(load->piece);
    for (int k = 0; k < BUFFERS; k++)
        if (load->filled & 1 << k)
            PyBuffer_Release(&load->buffers[k]);
}

static int set_up(Load *load)
{
    load->lines = calloc(load->most, sizeof(Line));
    load->piece = malloc(PIECE);
    if (!load->lines || !load->piece) {
        PyErr_NoMemory();
        return 0;
    }
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    load->poll = epoll_create1(EPOLL_CLOEXEC);
    load->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (load->poll < 0 || load->timer < 0 || epoll_ctl(load->poll, EPOLL_CTL_ADD, load->timer, &event)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return 0;
    }
    return 1;
}

static int misfit(const char *what)
{
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

static int resolved(Load *load, const char *address, int port)
{
    struct sockaddr_in *four = (struct sockaddr_in *)&load->to;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&load->to;
    if (port < 1 || port > 65535)
        return misfit("there is no such port");
    if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        load->to_size = sizeof *four;
    } else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        load->to_size = sizeof *six;
    } else {
        return misfit("the address is none in numbers");
    }
    return 1;
}

/* Points into the buffers, once they are found to fit together. */
static int fitted(Load *load)
{
    const Py_buffer *of = load->buffers;
    const Py_ssize_t kinds = of[ENDS].len / (Py_ssize_t)sizeof(int64_t);
    load->bytes = of[REQUESTS].buf;
    load->ends = of[ENDS].buf;
    load->which = of[WHICH].buf;
    load->order = of[WHICH].len / (Py_ssize_t)sizeof(int32_t);
    load->due = of[DUE].buf;
    load->latency = of[LATENCY].buf;
    load->service = of[SERVICE].buf;
    load->lag = of[LAG].buf;
    load->status = of[STATUS].buf;
    load->count = of[STATUS].len / (Py_ssize_t)sizeof(int32_t);
    for (int k = DUE; k < STATUS; k++)
        if (of[k].len != load->count * (Py_ssize_t)sizeof(int64_t))
            return misfit("the arrays are of other lengths");
    if (!kinds || !load->order || load->most < 1)
        return misfit("there is nothing to send");
    for (Py_ssize_t k = 0; k < kinds; k++)
        if (load->ends[k] <= (k ? load->ends[k - 1] : 0) || load->ends[k] > of[REQUESTS].len)
            return misfit("the requests do not lie within their bytes");
    for (Py_ssize_t k = 0; k < load->order; k++)
        if (load->which[k] < 0 || load->which[k] >= kinds)
            return misfit("a request is asked for that is not there");
    for (Py_ssize_t k = 0; load->open && k < load->count; k++)
        if (load->due[k] < (k ? load->due[k - 1] : 0))
            return misfit("arrival times go back");
    return 1;
}

PyDoc_STRVAR(run_doc,
             "run(address, port, open, connections, settle, sending, patience, end, bound, allowed, first, requests, "
             "ends, which, due, latency, service, lag, status) -> (begun, opened, waited, elapsed, cpu)\n\n"
             "Times are ns. Raises ValueError for arrays that do not fit, OSError, and what signal handlers raise.");

static PyObject *run(PyObject *self, PyObject *args)
{
    Load load = {.poll = -1, .timer = -1};
    const char *address;
    int port;
    PyObject *from[BUFFERS], *answer = NULL;
    if (!PyArg_ParseTuple(args, "sipiLLLLLLnOOOOOOOO", &address, &port, &load.open, &load.most, &load.settle,
                          &load.sending, &load.patience, &load.end, &load.bound, &load.allowed, &load.first, &from[0],
                          &from[1], &from[2], &from[3], &from[4], &from[5], &from[6], &from[7]))
        return NULL;
    int good = resolved(&load, address, port);
    for (int k = 0; good && k < BUFFERS; k++) {
        good = !PyObject_GetBuffer(from[k], &load.buffers[k], k < DUE ? PyBUF_CONTIG_RO : PyBUF_CONTIG);
        load.filled |= good << k;
    }
    if (good && fitted(&load) && set_up(&load)) {
        const int64_t cpu = clock_now(CLOCK_THREAD_CPUTIME_ID);
        int done = 0, failed = 0;
        load.start = clock_now(CLOCK_MONOTONIC);
        if (load.settle > 0) {
            Py_BEGIN_ALLOW_THREADS
            connect_all(&load);
            Py_END_ALLOW_THREADS
            load.start = clock_now(CLOCK_MONOTONIC);
        }
        while (!done && !failed) {
            Py_BEGIN_ALLOW_THREADS
            done = run_on(&load);
            Py_END_ALLOW_THREADS
            failed = PyErr_CheckSignals();
        }
        const int64_t took = elapsed(&load);
        for (Line *line = load.oldest; line; line = line->after) {
            load.latency[line->at] = took - load.due[line->at];
            load.service[line->at] = took - line->began;
        }
        for (Py_ssize_t at = load.begun; at < load.arrived; at++)
            load.latency[at] = took - load.due[at];
        if (!failed)
            answer = Py_BuildValue("nnnLL", load.arrived, load.opened, load.waited, (long long)took,
                                   (long long)(clock_now(CLOCK_THREAD_CPUTIME_ID) - cpu));
    }
    let_go(&load);
    return answer;
}

static PyMethodDef functions[] = {{"run", run, METH_VARARGS, run_doc}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_load", "Sends requests when they are due.", 0, functions,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__load(void) { return PyModuleDef_Init(&module); }
