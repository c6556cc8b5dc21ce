//! The number of workers that the load needs: `/scale` on real servers, and a simulation of an orchestrator that follows it.

mod picture;
mod servers;
mod simulation;
