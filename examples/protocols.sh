# Several protocols on one port: what a browser, a curl user and a gRPC client call is the same method.
# What one sees: the same reply three times, by gRPC, gRPC-Web and Connect.
#> {"value":42}
#> {"value":42}
#> {"value":42}

set -eu
url=$(bandy rpc serve -l :0 --background --pidfile pid)
trap 'kill "$(cat pid)"' EXIT
for protocol in grpc grpc-web connect; do
  bandy rpc call -e "$url" --protocol "$protocol" Calc/Add a:=2 b:=40
done
