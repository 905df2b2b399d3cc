"""From a file of packets (pcap, pcapng; ours or anybody's) to the byte streams and messages of its SPICE connections."""
