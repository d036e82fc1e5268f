/* A reply of HTTP/1, told apart from what follows it, as its bytes come: status, where it ends, whether the connection
 * stays. Its body is not kept. Whatever a server sends takes bounded memory. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { LINE = 256, HEAD = 1 << 16 };
#define LARGEST ((int64_t)1 << 50)

typedef enum { STATUS_LINE, HEADERS, BODY, UNTIL_CLOSED, CHUNK, IN_CHUNK, AFTER_CHUNK, TRAILERS } Stage;
typedef enum { MORE, COMPLETE, BROKEN } Outcome;

typedef struct {
    Stage stage;
    int status, keeps, chunked, sized;
    int64_t left;        /* bytes of the body, or of its chunk, that are to come */
    int32_t head, taken; /* bytes of head so far; of them those in line */
    char line[LINE];     /* the line so far; what is longer is cut off, nothing of interest is */
} Reply;

static void expect(Reply *reply) { memset(reply, 0, offsetof(Reply, line)); }

/* Whether a list of tokens, such as "Keep-Alive, Upgrade", has this one. */
static int lists(const char *value, const char *token)
{
    const size_t size = strlen(token);
    for (; *value; value++) {
        value += strspn(value, " \t,");
        const size_t length = strcspn(value, " \t,;");
        if (length == size && !strncasecmp(value, token, size))
            return 1;
        value += strcspn(value, ",");
        if (!*value)
            return 0;
    }
    return 0;
}

static const char *value_of(const char *line, const char *name)
{
    const size_t size = strlen(name);
    if (strncasecmp(line, name, size) || line[size] != ':')
        return NULL;
    return line + size + 1 + strspn(line + size + 1, " \t");
}

/* A whole number in these digits and nothing behind it but white space, or what follows a semicolon; else -1. */
static int64_t number(const char *text, int base)
{
    int64_t found = 0;
    int digits = 0;
    for (; *text; text++, digits++) {
        const char lower = *text | 32;
        const int digit = *text >= '0' && *text <= '9' ? *text - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
        if (digit >= base)
            break;
        found = found * base + digit;
        if (found > LARGEST)
            return -1;
    }
    text += strspn(text, " \t");
    return digits && (!*text || *text == ';') ? found : -1;
}

static Outcome status_line(Reply *reply)
{
    const char *line = reply->line;
    if (strncmp(line, "HTTP/1.", 7) || (line[7] != '0' && line[7] != '1') || line[8] != ' ')
        return BROKEN;
    for (int at = 9; at < 12; at++)
        if (line[at] < '0' || line[at] > '9')
            return BROKEN;
    if (line[12] && line[12] != ' ')
        return BROKEN;
    reply->keeps = line[7] == '1';
    reply->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + line[11] - '0';
    reply->stage = HEADERS;
    return reply->status < 100 || reply->status == 101 ? BROKEN : MORE;
}

static Outcome header(Reply *reply)
{
    const char *value;
    if ((value = value_of(reply->line, "content-length"))) {
        const int64_t size = number(value, 10);
        if (size < 0 || (reply->sized && size != reply->left))
            return BROKEN;
        reply->sized = 1;
        reply->left = size;
    } else if ((value = value_of(reply->line, "transfer-encoding"))) {
        reply->chunked |= lists(value, "chunked");
    } else if ((value = value_of(reply->line, "connection"))) {
        if (lists(value, "close"))
            reply->keeps = 0;
        else if (lists(value, "keep-alive"))
            reply->keeps = 1;
    }
    return MORE;
}

static Outcome head_ended(Reply *reply)
{
    if (reply->status < 200) {
        expect(reply);
        return MORE;
    }
    if (reply->status == 204 || reply->status == 304)
        return COMPLETE;
    if (reply->chunked) {
        reply->stage = CHUNK;
        return MORE;
    }
    reply->stage = reply->sized ? BODY : UNTIL_CLOSED;
    if (!reply->sized)
        reply->keeps = 0;
    return reply->sized && !reply->left ? COMPLETE : MORE;
}

static Outcome line_ended(Reply *reply)
{
    switch (reply->stage) {
    case STATUS_LINE:
        return status_line(reply);
    case HEADERS:
        return reply->taken ? header(reply) : head_ended(reply);
    case CHUNK:
        reply->left = number(reply->line, 16);
        reply->stage = reply->left ? IN_CHUNK : TRAILERS;
        return reply->left < 0 ? BROKEN : MORE;
    case AFTER_CHUNK:
        reply->stage = CHUNK;
        return reply->taken ? BROKEN : MORE;
    default:
        return reply->taken ? MORE : COMPLETE; /* trailers */
    }
}

/* Takes what came. COMPLETE: the reply ends with the first *used bytes of it. */
static Outcome feed(Reply *reply, const char *data, size_t size, size_t *used)
{
    const char *at = data, *const end = data + size;
    Outcome outcome = MORE;
    while (outcome == MORE && at < end) {
        if (reply->stage == UNTIL_CLOSED) {
            at = end;
        } else if (reply->stage == BODY || reply->stage == IN_CHUNK) {
            const int64_t taken = end - at < reply->left ? end - at : reply->left;
            at += taken;
            reply->left -= taken;
            if (!reply->left && reply->stage == BODY)
                outcome = COMPLETE;
            else if (!reply->left)
                reply->stage = AFTER_CHUNK;
        } else {
            const char *const newline = memchr(at, '\n', end - at);
            const size_t length = (newline ? newline : end) - at;
            const size_t room = LINE - 1 - reply->taken, kept = length < room ? length : room;
            memcpy(reply->line + reply->taken, at, kept);
            reply->taken += (int32_t)kept;
            at += length + (newline ? 1 : 0);
            /* What comes between chunks counts as head too, but for each chunk anew: a body may have any number. */
            reply->head = length > HEAD ? HEAD + 1 : reply->head + (int32_t)length + 1;
            if (reply->head > HEAD)
                return BROKEN;
            if (!newline)
                break;
            if (reply->taken && reply->line[reply->taken - 1] == '\r')
                reply->taken--;
            reply->line[reply->taken] = 0;
            outcome = line_ended(reply);
            reply->taken = 0;
            if (reply->stage == IN_CHUNK)
                reply->head = 0;
        }
    }
    *used = at - data;
    return outcome;
}
