// A web application with sessions: Express, express-session, and connect-redis over node-redis, all unchanged.
//
// Environment: PORT (HTTP), REDIS_PORT (the node this instance talks to), SESSION_SECONDS.
const express = require("express");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");

const { PORT, REDIS_PORT, SESSION_SECONDS } = process.env;

async function main() {
  const client = createClient({ url: `redis://127.0.0.1:${REDIS_PORT}` });
  client.on("error", (error) => console.error(error.message));
  await client.connect();
  const store = new RedisStore({ client });

  const app = express();
  app.use(
    session({
      store,
      secret: "only-for-tests",
      resave: false,
      saveUninitialized: false,
      cookie: { maxAge: SESSION_SECONDS * 1000 },
    }),
  );
  const known = (request, response, next) => (request.session.user ? next() : response.sendStatus(401));

  app.post("/login", (request, response) => {
    request.session.user = request.query.user;
    request.session.visits = 0;
    response.send("welcome");
  });
  app.post("/visit", known, (request, response) => {
    request.session.visits += 1;
    response.send(`${request.session.user} ${request.session.visits}`);
  });
  // Changes nothing, so express-session asks the store for a touch.
  app.get("/me", known, (request, response) => response.send(`${request.session.user} ${request.session.visits}`));
  app.post("/logout", known, (request, response) => request.session.destroy(() => response.send("bye")));
  // What an administrator's page asks of the store: SCAN and MGET.
  app.get("/library", async (_request, response) => {
    const [count, users] = [await store.length(), (await store.all()).map((each) => each.user)];
    response.send(count === users.length && users.every(Boolean) ? "ok" : `${count} sessions of ${users}`);
  });
  app.listen(PORT, "127.0.0.1");
}

main();
