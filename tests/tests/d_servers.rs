//! D6: Debian's redis-server, nginx and memcached under load while a harmless patch comes and goes: no request fails.

use lp_tests::tools::Running;
use lp_tests::{Lab, Outcome, lp_apply, lp_compile, needs, turns, wait_for};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn d6_redis_server() {
    if !needs("redis-server") || !needs("redis-tools") {
        return;
    }
    let lab = Lab::new();
    let socket = lab.path("socket");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    command.arg("--dir").arg(lab.path(""));
    let server = Server::start(&lab, &mut command, || UnixStream::connect(&socket).is_ok());
    let bundle = server.bundle("redis-server", "-DREDIS", &[]);
    server.patched_under_load(&bundle, || {
        let mut load = Command::new("redis-benchmark");
        load.args(["-q", "-n", "20000", "-c", "20", "-t", "get,set", "-s"]).arg(&socket);
        let run = Running::start(&mut load).finish();
        run.expect(0);
        assert!(!run.stdout.contains("rror") && !run.stderr.contains("rror"), "{run}");
        assert!(run.stdout.contains("GET:") && run.stdout.contains("SET:"), "{run}");
    });
}

#[test]
fn d6_nginx() {
    if !needs("nginx-light") || !needs("wrk") {
        return;
    }
    let lab = Lab::new();
    let address = free_address();
    lab.write("www/index.html", "hello\n");
    let dir = lab.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let config = lab.write(
        "nginx.conf",
        format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
             events {{ worker_connections 256; }}
             http {{ access_log off; client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;
                     uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;
                     server {{ listen {address}; root {dir}/www; }} }}"
        ),
    );
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&config).arg("-e").arg(lab.path("error.log"));
    let server = Server::start(&lab, &mut command, || std::net::TcpStream::connect(&address).is_ok());
    let bundle = server.bundle("/usr/sbin/nginx", "-DNGINX", &[]);
    server.patched_under_load(&bundle, || {
        let url = format!("http://{address}/index.html");
        let run = Running::start(Command::new("wrk").args(["-t", "1", "-c", "16", "-d", "1s", &url])).finish();
        run.expect(0);
        assert!(run.stdout.contains("Requests/sec"), "{run}");
        assert!(!run.stdout.contains("Socket errors") && !run.stdout.contains("Non-2xx"), "{run}");
    });
}

#[test]
fn d6_memcached() {
    if !needs("memcached") {
        return;
    }
    let lab = Lab::new();
    let socket = lab.path("socket");
    let mut command = Command::new("memcached");
    command.args(["-t", "4", "-u", "root", "-s"]).arg(&socket);
    let server = Server::start(&lab, &mut command, || UnixStream::connect(&socket).is_ok());
    let socket = socket.as_path();
    let bundle = server.bundle("memcached", "-DMEMCACHED", &["--replace", "libc.so.6:sendmsg=new_sendmsg"]);
    server.patched_under_load(&bundle, || {
        std::thread::scope(|scope| (0..4).for_each(|client| _ = scope.spawn(move || sets_and_gets(socket, client))))
    });
}

/// A client of memcached: what it stores it gets back.
fn sets_and_gets(socket: &Path, client: u32) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |question: &str, lines: &[&str]| {
        stream.write_all(question.as_bytes()).unwrap();
        lines.iter().for_each(|want| assert_eq!(answers.next().unwrap().unwrap(), *want, "{question}"));
    };
    for n in 0..2000 {
        let (key, value) = (format!("key{client}.{}", n % 50), format!("{n:08}"));
        ask(&format!("set {key} 0 0 8\r\n{value}\r\n"), &["STORED"]);
        ask(&format!("get {key}\r\n"), &[&format!("VALUE {key} 0 8"), &value, "END"]);
    }
}

/// An address of this machine that nobody listens at.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A server that the test has started.
struct Server<'a> {
    lab: &'a Lab,
    process: Running,
    pid: String,
}

impl<'a> Server<'a> {
    fn start(lab: &'a Lab, command: &mut Command, answers: impl Fn() -> bool) -> Self {
        let process = Running::start(command);
        let pid = process.pid().to_string();
        wait_for(&format!("an answer of {command:?}"), || answers().then_some(()));
        Self { lab, process, pid }
    }

    /// The harmless patch for it.
    fn bundle(&self, program: &str, which: &str, options: &[&str]) -> String {
        let exe = std::fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap();
        let patch = self.lab.patch("d6_servers.c", &[which]);
        let out = self.lab.path("fix.lpb");
        let [exe, patch, out] = [&exe, &patch, &out].map(|path| path.to_str().unwrap());
        let args = ["build", "--target", exe, "--patch", patch, "-o", out];
        println!("{program}: {}", lp_compile(args.iter().chain(options)).expect(0));
        out.to_owned()
    }

    /// Applies and reverts it while `load` runs again and again; it panics if a request fails.
    fn patched_under_load(mut self, bundle: &str, load: impl Fn() + Sync) {
        let done = AtomicBool::new(false);
        let apply = |args: &[&str], outcome| lp_apply(args.iter().chain(&["--pid", &self.pid])).expect(outcome);
        std::thread::scope(|scope| {
            let loads = scope.spawn(|| {
                let mut loads = 0;
                while !done.load(Ordering::Relaxed) {
                    load();
                    loads += 1;
                }
                loads
            });
            for turn in 0..turns(20, 100) {
                let process = apply(&[bundle, "--wait", "60s"], Outcome::Applied);
                let before = self.own_data();
                wait_for(&format!("calls of the new code in turn {turn}"), || {
                    assert!(!loads.is_finished(), "the load has failed");
                    (self.own_data() != before).then_some(())
                });
                println!("turn {turn}: stopped for {} us after {} ms", process["stop_us"], process["waited_ms"]);
                apply(&["revert", bundle, "--wait", "60s"], Outcome::Reverted);
            }
            done.store(true, Ordering::Relaxed);
            println!("{} loads", loads.join().unwrap());
        });
        load();
        assert!(self.process.is_running());
    }

    /// The patch's own variables in the server's memory.
    fn own_data(&self) -> Vec<u8> {
        let listed = lp_apply(["list", "--pid", &self.pid]).run.json();
        let mappings = listed["processes"][0]["patches"][0]["mappings"].as_array().unwrap().clone();
        let hex = |v: &Value| u64::from_str_radix(v.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        let number = |v: &Value| v.as_u64().unwrap_or_else(|| hex(v));
        let own = mappings.iter().find(|m| m["prot"] == 3).expect("a writable mapping");
        let mut bytes = vec![0; usize::try_from(number(&own["len"])).unwrap()];
        let memory = File::open(format!("/proc/{}/mem", self.pid)).unwrap();
        memory.read_exact_at(&mut bytes, number(&own["start"])).unwrap();
        bytes
    }
}
