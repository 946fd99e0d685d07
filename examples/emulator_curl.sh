#!/bin/sh
# A shell script with curl against the emulator: it starts one, injects a fault, uploads, and checks the requests.
#
#     examples/emulator_curl.sh movie.mp4

set -eu
movie=$1
scratch=$(mktemp -d)
async-uploader emulator > "$scratch/listening" &
emulator=$!
trap 'kill $emulator; wait $emulator; rm -r "$scratch"' EXIT
until url=$(sed -n 's/^listening on //p' "$scratch/listening") && [ -n "$url" ]; do sleep 0.1; done

# The first upload is refused, and curl retries it: --retry repeats requests after a 503.
curl --silent --show-error --fail --data '{"spec": "upload,attempt=1:status=503"}' "$url/_emulator/faults"
echo
video=$(curl --silent --show-error --fail --user local-key: --data '{"title": "From curl"}' "$url/videos" |
    sed 's/.*"videoId":"\([^"]*\)".*/\1/')
curl --silent --show-error --retry 2 --retry-delay 1 --user local-key: --form "file=@$movie" \
    --output "$scratch/video.json" "$url/videos/$video/source"

# What the emulator received.
requests=$(curl --silent --show-error --fail "$url/_emulator/requests")
case $requests in
*'"status":503,"problem":"server-error"'*'"status":201'*) echo "The upload was retried." ;;
*) echo "Unexpected requests: $requests" >&2 && exit 1 ;;
esac
sum=$(sha256sum "$movie" | cut -d ' ' -f 1)
curl --silent --show-error --fail "$url/_emulator/videos" | grep --quiet "\"sha256\":\"$sum\""
echo "The video has arrived."
