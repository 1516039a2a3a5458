"""Find how many live sources one machine carries: cameras are added until frames are lost or come too late.

Every camera sends the same video at its own speed (`runtime.benchmark.looped_camera`), and `runtime.live` watches them
all with one engine, as `afsd watch` does. A number of cameras is *carried* if, for as long as it is measured, no frame
and no window is dropped, no camera is lost, every frame is read at most `load.READING_LAG_S` late, and every window, or
chunk of a streaming network, is done before the next one of its camera is complete. So nothing piles up, however long
it goes on.
"""
