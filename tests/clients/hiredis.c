/* hiredis, unchanged: commands with binary values, and many of them appended before the first reply is read.
 *
 * Environment: RONDO_HOST, RONDO_PORTS. One line per case; exits with the number of failures. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

static void verdict(const char *name, int good) {
    printf("%s %s\n", good ? "ok" : "not ok", name);
    failures += !good;
}

int main(void) {
    const char *host = getenv("RONDO_HOST") ? getenv("RONDO_HOST") : "127.0.0.1";
    redisContext *client = redisConnect(host, atoi(getenv("RONDO_PORTS")));
    if (client == NULL || client->err) {
        printf("not ok connect: %s\n", client ? client->errstr : "no memory");
        return 1;
    }
    redisReply *reply = redisCommand(client, "SET %b %b", "hi\0redis", (size_t)8, "\0\r\n", (size_t)3);
    verdict("SET of bytes", reply && reply->type == REDIS_REPLY_STATUS && !strcmp(reply->str, "OK"));
    freeReplyObject(reply);
    reply = redisCommand(client, "GET %b", "hi\0redis", (size_t)8);
    verdict("GET of bytes", reply && reply->len == 3 && !memcmp(reply->str, "\0\r\n", 3));
    freeReplyObject(reply);
    for (int i = 0; i < 5000; i++) redisAppendCommand(client, "INCRBY hiredis:n %d", 1);
    long long last = 0;
    int good = 1;
    for (int i = 0; i < 5000; i++) {
        if (redisGetReply(client, (void **)&reply) != REDIS_OK || reply->type != REDIS_REPLY_INTEGER) {
            good = 0;
            break;
        }
        good &= i == 0 || reply->integer == last + 1;
        last = reply->integer;
        freeReplyObject(reply);
    }
    verdict("5000 appended commands in order", good);
    reply = redisCommand(client, "DEL hiredis:n %b", "hi\0redis", (size_t)8);
    verdict("DEL", reply && reply->integer == 2);
    freeReplyObject(reply);
    redisFree(client);
    return failures;
}
