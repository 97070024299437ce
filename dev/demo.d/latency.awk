# p50, p95, p99 of a pgbench transaction log in milliseconds, before, during
# and after [start, stop); input sorted by latency: "latency_us time_s".
{
	phase = $2 < start ? "before" : $2 < stop ? "during" : "after"
	n[phase]++
	value[phase, n[phase]] = $1 / 1000
}
function percentile(phase, p,    at) {
	at = int(n[phase] * p / 100)
	if (at < n[phase] * p / 100) at++
	return n[phase] ? value[phase, at] : 0
}
END {
	printf "  %-8s %13s %9s %9s %9s\n", "", "transactions", "p50 ms", "p95 ms", "p99 ms"
	split("before during after", phases)
	for (i = 1; i <= 3; i++)
		printf "  %-8s %13d %9.2f %9.2f %9.2f\n", phases[i], n[phases[i]], \
			percentile(phases[i], 50), percentile(phases[i], 95), percentile(phases[i], 99)
}
