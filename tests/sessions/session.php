<?php
// A web application with PHP's own sessions, kept by phpredis's handler, unchanged. Locking is off, as it is by default.
//
// Run by `php -S` with session.save_handler and session.save_path set to one node (redis) or to all (rediscluster).
session_start();
$path = parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH);

if ($path === "/login") {
    session_regenerate_id(true); // against session fixation, as the manual tells to
    $_SESSION["user"] = $_GET["user"];
    $_SESSION["visits"] = 0;
    exit("welcome");
}
if ($path === "/library") {
    $_SESSION["user"] = "moved";
    $before = session_id();
    exit(session_regenerate_id(true) && session_id() !== $before ? "ok" : "not regenerated");
}
if (!isset($_SESSION["user"])) {
    session_destroy(); // else it would keep an empty session
    http_response_code(401);
    exit();
}
if ($path === "/visit") $_SESSION["visits"]++;
if ($path === "/logout") session_destroy();
echo $_SESSION["user"], " ", $_SESSION["visits"];
