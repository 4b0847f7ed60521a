"""nginx, Python, Tomcat, and PHP-FPM in the network namespace of its nginx."""

import os
from concurrent.futures import ThreadPoolExecutor

from world import FILES, Failed, Workload, contains, equal, get


class Nginx(Workload):
    title, package, containers = "nginx", "debian:nginx-light", {"nginx": 0}
    url = "http://127.0.0.1:18081/"

    def create(self):
        self.w.d("run", "-d", "--name", "nginx", "-p", "127.0.0.1:18081:80", "--memory", "128m", "--cpus", "1.5", "debian", "sh", "-c",
                 "ln -sf /dev/stdout /var/log/nginx/access.log; echo served by nginx >/var/www/html/index.html; exec nginx -g 'daemon off;'")

    def answers(self):
        return get(self.url) == "served by nginx\n"

    def more(self):
        with ThreadPoolExecutor(8) as pool:
            equal(set(pool.map(lambda _: get(self.url), range(400))), {"served by nginx\n"}, "400 answers")
        self.w.d("exec", "nginx", "nginx", "-s", "reload")
        self.w.until("nginx after reload", self.answers)
        # Its workers have another user than their master.
        users = set(self.w.out("top", "nginx", "-o", "pid,user").split()[3::2])
        if len(users) < 2:
            raise Failed(f"users of nginx: {users}")

    def write(self, token):
        self.w.d("exec", "nginx", "sh", "-c", f"echo {token} >>/var/www/html/kept")

    def read(self):
        return get(self.url + "kept").split() if self.kept else []

    def speak(self, token):
        get(f"{self.url}?{token}")
        return "nginx", f"GET /.{token} HTTP"


class Python(Workload):
    # Process 1 that handles no signal would not end by one: docker's own init (--init) gives it on.
    title, package, containers = "Python's http.server", "debian:python3", {"python": 143}
    url = "http://127.0.0.1:18082/"

    def create(self):
        self.w.d("run", "-d", "--init", "--name", "python", "-p", "127.0.0.1:18082:8000", "-u", "www-data", "-w", "/usr/share/python3", "debian",
                 "python3", "-u", "-m", "http.server", "8000")

    def answers(self):
        return "Directory listing for /" in get(self.url)

    def more(self):
        equal(self.w.out("exec", "python", "python3", "-c", "import subprocess, threading; t = threading.Thread(target=print, args=('thread',)); t.start(); "
                         "t.join(); print(subprocess.run(['id', '-un'], capture_output=True, text=True).stdout.strip())"), "thread\nwww-data", "threads and children")

    def write(self, token):
        self.w.d("exec", "-u", "0", "python", "sh", "-c", f"echo {token} >>kept")

    def read(self):
        return get(self.url + "kept").split() if self.kept else []

    def speak(self, token):
        get(f"{self.url}?{token}")
        return "python", f"GET /.{token} HTTP"


class Tomcat(Workload):
    title, package, containers = "Tomcat", "services:tomcat10", {"tomcat": 143}
    url = "http://127.0.0.1:18083/kept.jsp"
    home = "/var/lib/tomcat10"

    def create(self):
        self.w.d("run", "-d", "--name", "tomcat", "-u", "tomcat", "-p", "127.0.0.1:18083:8080", "-m", "512m", "--cpus", "1",
                 "-e", f"CATALINA_BASE={self.home}", "-e", "CATALINA_HOME=/usr/share/tomcat10", "-e", "CATALINA_TMPDIR=/tmp",
                 "-v", f"{FILES}/kept.jsp:{self.home}/webapps/ROOT/kept.jsp:ro", "-v", "tomcat:/var/log/tomcat10", "services",
                 "/usr/share/tomcat10/bin/catalina.sh", "run")

    def answers(self):
        # Java takes its heap and its processors from the cgroup: a quarter of 512 MiB, and one.
        lines = get(self.url, timeout=60).split()
        equal(lines[1], "processors=1", "processors that Java sees")
        heap = int(lines[2].split("=")[1])
        if not 100 << 20 < heap <= 128 << 20:
            raise Failed(f"heap that Java takes: {heap}")
        return lines[0] == "tomcat"

    def write(self, token):
        get(f"{self.url}?put={token}")

    def read(self):
        return get(self.url).split()[3:]

    def speak(self, token):
        get(f"{self.url}?say={token}")
        return "tomcat", f"said {token}"


class PhpFpm(Workload):
    # Started after the container whose network it shares, and stopped before it.
    title, package, containers = "PHP-FPM in nginx's network namespace", "services:php8.2-fpm", {"front": 0, "fpm": 0}
    url = "http://127.0.0.1:18084/kept.php"

    def create(self):
        self.w.d("run", "-d", "--name", "front", "-p", "127.0.0.1:18084:80", "-v", f"{FILES}/front.conf:/etc/nginx/sites-enabled/default:ro",
                 "debian", "nginx", "-g", "daemon off;")
        self.w.d("run", "-d", "--name", "fpm", "--network", "container:front", "-v", f"{FILES}/kept.php:/srv/site/kept.php:ro", "-v", "fpm:/srv/data",
                 "-v", f"{FILES}/fpm.conf:/etc/fpm.conf:ro", "services", "sh", "-c", "chown www-data /srv/data; exec php-fpm8.2 -F -y /etc/fpm.conf")

    def answers(self):
        pids = [self.w.inspect(name, "{{.State.Pid}}") for name in self.containers]
        equal(len({os.readlink(f"/proc/{p}/ns/net") for p in pids}), 1, "network namespaces of the two")
        equal(len({os.readlink(f"/proc/{p}/ns/pid") for p in pids}), 2, "pid namespaces of the two")
        return get(self.url).split()[0] == "fpm-fcgi"

    def more(self):
        # FPM listens on the loopback interface alone, which both have.
        contains(self.w.out("exec", "front", "ss", "-Hltn"), "127.0.0.1:9000", "sockets of the shared namespace")

    def write(self, token):
        get(f"{self.url}?put={token}")

    def read(self):
        return get(self.url).split()[1:]

    def speak(self, token):
        get(f"{self.url}?say={token}")
        return "fpm", token


ALL = [Nginx, Python, Tomcat, PhpFpm]
