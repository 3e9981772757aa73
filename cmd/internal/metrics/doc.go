// Package metrics tells Prometheus how a daemon does.
//
// A [Collector] asks for a [State] at each scrape: nothing is counted twice, and
// nothing is kept here. What it tells names folders and members, which are
// private, and never files. So the listener is opt-in and of this machine, and
// [Handler] answers only requests for an address of it: a page in a browser
// cannot have a name of its own lead here.
//
// libp2p's own metrics are not told: its registerer is a type of Prometheus,
// which does not reach into package peers. What is sent to and had from each
// member is counted there.
package metrics
