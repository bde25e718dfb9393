from parakeet_service.domain.recording_warnings import DamagedAudio, FurtherTracks, UnderstatedLength


def test_further_tracks_are_listed_with_their_numbers() -> None:
    message = FurtherTracks(track=1, tracks=("eng, aac, stereo", "deu, ac3, 5.1")).message

    assert "track 1 of 2" in message
    assert "1: eng, aac, stereo; 2: deu, ac3, 5.1" in message


def test_a_header_is_told_with_what_it_states() -> None:
    assert "0.10 s" in UnderstatedLength(0.1).message


def test_damage_is_told() -> None:
    assert "damaged" in DamagedAudio().message
