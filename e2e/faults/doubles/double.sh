#!/bin/sh
# Stands in for one program of the machine (OCI runtime, conmon, CNI plugin): runs the snippets beside it around the real one.
#   $0.d/real          path of the real program
#   $0.d/VERB.before   sh, before the real program is run; `exit` keeps it from running
#   $0.d/VERB.after    sh, when it has ended with $status; $started is its pid
#   $0.d/calls         one line per call, "VERB"
# VERB is the CNI verb, the runtime's command, or `monitor`. Snippets see $here (that directory) and $verb.
here=$0.d
read -r real < "$here/real"
verb=$CNI_COMMAND
if [ -z "$verb" ]; then
  verb=monitor
  [ -n "$_OCI_SYNCPIPE" ] && [ "${0##*/}" = conmon ] || for word; do
    case $word in create | start | run | exec | delete | kill | state | --version) verb=$word; break ;; esac
  done
fi
echo "$verb" >> "$here/calls"
# shellcheck disable=SC1090
[ -e "$here/$verb.before" ] && . "$here/$verb.before"
[ -e "$here/$verb.after" ] || exec "$real" "$@"
# A background job would get /dev/null as its input.
exec 9<&0
"$real" "$@" <&9 9<&- &
started=$!
exec 9<&-
wait "$started"
status=$?
# shellcheck disable=SC1090
. "$here/$verb.after"
exit "$status"
