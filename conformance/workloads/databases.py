"""MariaDB, PostgreSQL and Redis: what is kept must outlive `docker kill`."""

from world import Workload, equal


class MariaDB(Workload):
    title, package, containers = "MariaDB", "debian:mariadb-server", {"mariadb": 0}
    sql = ("exec", "-i", "mariadb", "mariadb", "--batch", "--skip-column-names")

    def create(self):
        self.w.d("run", "-d", "--name", "mariadb", "--network", "none", "-m", "1g", "-v", "mariadb:/var/lib/mysql", "debian", "sh", "-c",
                 "mkdir -p /run/mysqld && chown mysql /run/mysqld /var/lib/mysql && "
                 "{ [ -d /var/lib/mysql/mysql ] || mariadb-install-db --user=mysql --skip-test-db >/dev/null; } && exec mariadbd --user=mysql")

    def query(self, text):
        return self.w.out(*self.sql, stdin=text)

    def answers(self):
        return self.query("select 1;") == "1"

    def more(self):
        self.query("use shop; create table item (id int primary key, name varchar(40)) engine=innodb;"
                   "insert into item select seq, concat('item ', seq) from seq_1_to_5000;")

    def write(self, token):
        self.query("create database if not exists shop; use shop; create table if not exists kept (id serial, token varchar(40)) engine=innodb;"
                   f"insert into kept (token) values ('{token}');")

    def read(self):
        if not self.kept:
            return []
        if len(self.kept) > 1:
            equal(self.query("select count(*), sum(id) from shop.item;"), "5000\t12502500", "rows")
        return self.query("select token from shop.kept order by id;").split()

    def speak(self, token):
        self.w.d("exec", "mariadb", "mariadb", "--protocol=socket", f"--user={token}", "-e", "select 1", code=1)
        return "mariadb", f"Access denied for user '{token}'"


class PostgreSQL(Workload):
    title, package, containers = "PostgreSQL", "services:postgresql-15", {"postgresql": 0}
    programs = "/usr/lib/postgresql/15/bin"

    def create(self):
        # SIGINT is its word for an orderly end that does not wait for clients.
        self.w.d("run", "-d", "--name", "postgresql", "-u", "postgres", "--read-only", "--tmpfs", "/tmp", "-e", "PGHOST=/tmp",
                 "--shm-size", "256m", "--stop-signal", "SIGINT", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
                 "--health-cmd", "pg_isready -U postgres", "--health-interval", "1s", "--health-retries", "60",
                 "-v", "postgresql:/var/lib/postgresql", "services", "sh", "-ec",
                 f"PATH={self.programs}:$PATH; D=/var/lib/postgresql/data; [ -s $D/PG_VERSION ] || {{ initdb -D $D -A trust --no-sync >/dev/null; "
                 "echo 'host all all 10.231.0.0/16 trust' >>$D/pg_hba.conf; }; exec postgres -D $D -c listen_addresses='*' -c unix_socket_directories=/tmp")

    def query(self, text):
        return self.w.out("exec", "-i", "postgresql", "psql", "-v", "ON_ERROR_STOP=1", "-XAtq", stdin=text)

    def answers(self):
        return self.query("select 1") == "1" and self.w.inspect("postgresql", "{{.State.Health.Status}}") == "healthy"

    def more(self):
        self.w.d("run", "--rm", "-u", "postgres", "-e", f"PGHOST={self.w.address('postgresql')}", "services", "sh", "-ec",
                 f"{self.programs}/pgbench -i -q -s 2; {self.programs}/pgbench -c 4 -j 2 -t 50")
        # Its processes share memory in /dev/shm, whose size the engine gave.
        self.query("set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set min_parallel_table_scan_size = 0; "
                   "select count(*) from pgbench_accounts")

    def write(self, token):
        self.query(f"create table if not exists kept (id serial, token text); insert into kept (token) values ('{token}')")

    def read(self):
        if len(self.kept) > 1:
            equal(self.query("select count(*) from pgbench_accounts"), "200000", "rows")
        return self.query("select token from kept order by id").split() if self.kept else []

    def speak(self, token):
        self.query(f"do $$ begin raise log '{token}'; end $$")
        return "postgresql", f"LOG:  {token}"


class Redis(Workload):
    title, package, containers = "Redis", "debian:redis-server", {"redis": 0}

    def create(self):
        self.w.d("run", "-d", "--name", "redis", "--read-only", "--tmpfs", "/tmp", "-v", "redis:/var/lib/redis", "-w", "/var/lib/redis", "-u", "redis",
                 "--cap-drop", "ALL", "--ulimit", "nofile=4096", "debian", "redis-server", "--appendonly", "yes", "--appendfsync", "always",
                 "--bind", "0.0.0.0", "--protected-mode", "no")

    def cli(self, *words):
        return self.w.out("exec", "redis", "redis-cli", *words)

    def answers(self):
        return self.cli("ping") == "PONG"

    def more(self):
        equal(self.cli("set", "key", "some value"), "OK", "set")
        equal(self.w.out("run", "--rm", "debian", "redis-cli", "-h", self.w.address("redis"), "get", "key"), "some value", "get from another container")
        self.w.d("exec", "redis", "redis-benchmark", "-q", "-n", "2000", "-t", "set,get")

    def write(self, token):
        self.cli("rpush", "kept", token)

    def read(self):
        return self.cli("lrange", "kept", "0", "-1").split()

    def speak(self, token):
        self.cli("config", "set", "loglevel", "verbose")
        self.cli("client", "setname", token)
        self.cli("save")
        return "redis", "DB saved on disk"


ALL = [MariaDB, PostgreSQL, Redis]
