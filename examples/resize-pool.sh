# A pool of workers: four at a time take names of pictures from a queue; what cannot be done is tried again, then put aside.
# What one sees: the pictures that came out, then what was put aside and why there is nothing left to do.
#> cat.jpg.small
#> dog.jpg.small
#> owl.jpg.small
#> put aside: broken.jpg
#> left: 0

set -eu
BANDY_MQ_URL=$(bandy mq broker --memory -l :0 --background --pidfile pid)
export BANDY_MQ_URL
trap 'kill "$(cat pid)"' EXIT
touch cat.jpg dog.jpg owl.jpg
cat >resize.sh <<'WORKER'
#!/bin/sh
# A message on stdin; exit 0 acknowledges it. A real one calls convert(1).
read -r picture
[ -e "$picture" ] || { echo "$picture is not a picture" >&2; exit 1; }
cp "$picture" "$picture.small"
WORKER
chmod +x resize.sh
bandy mq create pictures
bandy mq create pictures.failed
printf '%s\n' cat.jpg dog.jpg broken.jpg owl.jpg | bandy mq send pictures
# --idle ends it; a pool that runs for good has -f alone.
bandy mq recv pictures -f --idle 1s -j 4 --retries 1 --dead-letter pictures.failed -- ./resize.sh 2>/dev/null || true
ls ./*.small | sed 's|^\./||'
echo "put aside: $(bandy mq recv pictures.failed --no-wait)"
echo "left: $(bandy mq ls queues pictures -o '%{ready}')"
